"""hpc/environment.py: what a run remembers of a person's environment, and what it may not say."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from hpc.environment import KEPT_VARIABLES, kept_environment, restored_environment, task_environment
from hpc.launch import Launch

ROOT = str(Path(__file__).resolve().parents[2])
SHARED = Launch(cluster="slurm", device="cuda", gpus_per_node=1)
CODE = dict.fromkeys(
    [
        *("LD_PRELOAD", "LD_AUDIT", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONUSERBASE", "BASH_ENV", "ENV", "PROMPT_COMMAND"),
        *("BASH_FUNC_module%%", "HOME", "USER", "LOGNAME", "SHELL", "IFS", "GCONV_PATH", "SQUEUE_FORMAT", "API_TOKEN"),
    ],
    "/theirs",
)


@pytest.fixture
def with_sbatch(tmp_path: Path) -> str:
    """A folder with an sbatch."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    return str(tmp_path / "bin")


def test_what_is_kept(with_sbatch: str) -> None:
    """What tasks and cron need, with a way to sbatch; neither secrets, nor a job's variables, nor what loads code."""
    given = {"PATH": f"/usr/bin:{with_sbatch}", "SLURM_CONF": "/c", "SLURM_JOB_ID": "1", "HF_HOME": "/h", **CODE}
    assert kept_environment(given) == {"PATH": given["PATH"], "SLURM_CONF": "/c", "HF_HOME": "/h"}
    assert kept_environment({"PATH": "/none"}) == {"PATH": "/none"}
    assert set(KEPT_VARIABLES).isdisjoint(CODE)


def test_folders_that_depend_on_where_one_stands(with_sbatch: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative and empty parts of paths are not kept: cron would take programs from wherever it starts. Those of PYTHONPATH
    are meant from here; a relative way to sbatch becomes a whole one.
    """
    monkeypatch.chdir(tmp_path)
    given = {"PATH": "bin::.:/usr/bin", "PYTHONPATH": "site:/abs:", "LD_LIBRARY_PATH": ":lib:/lib:"}
    assert kept_environment(given) == {
        "PATH": f"/usr/bin:{with_sbatch}",
        "PYTHONPATH": f"{tmp_path}/site:/abs",
        "LD_LIBRARY_PATH": "/lib",
    }
    assert kept_environment({"PATH": "/none", "PYTHONPATH": "", "LD_LIBRARY_PATH": ":"}) == {"PATH": "/none"}


def test_what_a_run_folder_says_is_not_all_believed() -> None:
    """Only the variables that a run may keep come from it, however it came to have others; the rest is the process's own."""
    own = {"PATH": "/bin", "HOME": "/me", "USER": "me", "LOGNAME": "me", "OTHER": "mine", "LD_LIBRARY_PATH": "/l"}
    kept = {"PATH": "/opt/slurm/bin:.:", "LD_LIBRARY_PATH": ":", "CUDA_HOME": "/cuda", **CODE}
    assert restored_environment(own, kept) == {**own, "PATH": "/opt/slurm/bin", "CUDA_HOME": "/cuda"}


def test_whose_process_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cron or `env -i` left out whose it is, it is the user's who runs it, and never what another has kept."""
    me = pwd.getpwuid(os.geteuid())
    found = restored_environment({}, CODE)
    assert found == {"HOME": me.pw_dir, "USER": me.pw_name, "LOGNAME": me.pw_name}
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)  # nobody's
    assert restored_environment({}, CODE) == {}


class TestEnvironment:
    def test_a_job_that_we_are_in_ourselves_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or else srun would take a controller's own job, its limits and its GPUs for the task's; the way to Slurm stays."""
        for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_MEM_PER_CPU", "SBATCH_EXPORT", "SRUN_CPUS_PER_TASK"):
            monkeypatch.setenv(name, "1")
        for name in ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "OTHER"):
            monkeypatch.setenv(name, "/etc/there")
        found = task_environment(SHARED)
        ways = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
        assert {name for name in found if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))} == ways
        assert {found[name] for name in (*ways, "OTHER")} == {"/etc/there"}

    def test_what_a_person_likes_to_see_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Filters and formats would make a run's jobs invisible, and a question of scancel's would have nobody to answer."""
        for name in ("SQUEUE_STATES", "SQUEUE_USERS", "SQUEUE_PARTITION", "SQUEUE_SORT", "SACCT_FORMAT", "SLURM_CLUSTERS"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("SCANCEL_INTERACTIVE", "1")
        assert not [name for name in task_environment(SHARED) if name.startswith(("SQUEUE", "SACCT", "SCANCEL", "SLURM"))]

    def test_what_was_kept_for_cron(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cron job's own PATH does not hide that of whoever submitted, and what it lacks comes from there too."""
        monkeypatch.setenv("PATH", "/bin")
        monkeypatch.delenv("SLURM_CONF", raising=False)
        monkeypatch.setenv("PYTHONPATH", "/cron")
        kept = {"PATH": "/opt/slurm/bin:/bin", "SLURM_CONF": "/etc/there", "PYTHONPATH": f"/mine:{ROOT}"}
        found = task_environment(Launch(cluster="slurm", device="cpu", gpus_per_node=0, environment=kept))
        assert (found["PATH"], found["SLURM_CONF"]) == ("/opt/slurm/bin:/bin", "/etc/there")
        assert found["PYTHONPATH"] == f"{ROOT}:{ROOT}/tokenizers:/mine"
