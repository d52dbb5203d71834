"""tools.doctor on a real Slurm: what it asks is answered, and nothing is left in the queue or on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.real_cluster import RealCluster
from support.runs import ROOT
from support.small_run import small_tar


def doctor(folder: Path, *words: object) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings. Nothing is left on disk."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")]),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [sys.executable, "-m", "tools.doctor", "--json", "--output-dir", str(folder / "tokens"), *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert not (folder / "tokens").exists()
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def nothing_of_it(slurm: RealCluster) -> bool:
    """No job of the doctor's is queued or runs."""
    return not any(row.name == "tar2tokens-doctor" for row in slurm.squeue())


def test_a_site_that_works(slurm: RealCluster, tmp_path: Path) -> None:
    """Commands, a job that would be taken, and two nodes that see each note."""
    (tmp_path / "list").write_text(f"{small_tar(tmp_path / 'a.tar')}\n")
    words = "--device", "cpu", "--backend", "mulaw", "--list", tmp_path / "list", "--wait", "200"
    code, found = doctor(tmp_path, *words)
    assert code == 0
    for check in ("sbatch", "squeue", "sacct", "scontrol", "a job", "news n1", "news n2", "paths n1", "clocks"):
        assert found[check]["verdict"] == "ok", found[check]
    assert found["nodes"]["found"] == "n1, n2 answered"
    assert "1,001 tasks" in found["scontrol"]["found"]
    slurm.wait(lambda: nothing_of_it(slurm), "an empty queue")


@pytest.mark.usefixtures("slurm")
def test_a_job_that_this_site_does_not_take(tmp_path: Path) -> None:
    """Nodes with nine GPUs, and a partition that is not there: Slurm's words, and exit code 1."""
    code, found = doctor(tmp_path, "--gpus-per-node", "9")
    assert (code, "node configuration is not available" in found["a job"]["found"]) == (1, True)
    code, found = doctor(tmp_path, "--partition", "nope")
    assert (code, "Invalid partition name" in found["a job"]["found"]) == (1, True)


def test_nodes_that_are_all_busy(slurm: RealCluster, tmp_path: Path) -> None:
    """It does not wait for long, and says what it could not check."""
    slurm.sbatch("sleep 600", "--array=0-3", "--exclusive")
    slurm.wait(lambda: [row.state for row in slurm.squeue()] == 4 * ["RUNNING"], "four jobs")
    code, found = doctor(tmp_path, "--device", "cpu", "--wait", "2")
    assert (code, found["nodes"]["verdict"]) == (0, "warning")
    assert "--wait 600" in found["nodes"]["advice"]
    assert nothing_of_it(slurm)


@pytest.mark.usefixtures("slurm_without_accounting")
def test_a_slurm_without_accounting(tmp_path: Path) -> None:
    """A warning: runs do without."""
    code, found = doctor(tmp_path, "--device", "cpu", "--nodes", "0")
    assert (code, found["sacct"]["verdict"]) == (0, "warning")


def test_a_slurm_whose_controller_is_away(slurm: RealCluster, tmp_path: Path) -> None:
    """Told as it is, with the way that needs no Slurm."""
    slurm.stop_controller()
    code, found = doctor(tmp_path, "--cluster", "slurm")
    slurm.start_controller()
    assert (code, found["squeue"]["verdict"]) == (1, "fault")
    assert "--cluster local" in found["squeue"]["advice"]
