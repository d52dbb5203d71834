"""On a real Slurm behind the habits of real sites: the same work is never submitted twice, and a refusal is heard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.real_cluster import RealCluster
from support.slurm_runs import SlurmRun, job_of, plan_of, slurm_run

COMMANDS = Path(__file__).resolve().parent.parent / "support" / "site_commands"
LATER = ("--slurm", "begin=now+1hour")
"""Keeps tasks in the queue, so that no round has anything to submit."""


def behind(run: SlurmRun, **stand_ins: str) -> SlurmRun:
    """The run, with a site's own commands before Slurm's: `squeue="cached_squeue"`."""
    folder = run.folder / "bin"
    folder.mkdir()
    for name, script in stand_ins.items():
        (folder / name).symlink_to(COMMANDS / script)
    run.env.update(PATH=f"{folder}:{run.env['PATH']}", TMPDIR=str(run.folder))
    return run


def assert_one_array(slurm: RealCluster, run: SlurmRun) -> None:
    """Round after round nothing more is submitted; hpc.cancel ends all that there is."""
    for _ in range(3):
        done = run.once(check=75)
        assert "wait" not in done.stdout
    assert len(slurm.squeue()) == 4
    assert len(run.submissions()) == 1
    run.command("hpc.cancel")
    slurm.wait(lambda: not slurm.squeue(), "an empty queue")


@pytest.mark.parametrize("told", ["by an option", "by a variable"])
def test_site_of_several_clusters(slurm: RealCluster, tmp_path: Path, told: str) -> None:
    """Jobs of the other cluster are seen only by those who ask for it; the run remembers it, and cron needs not say it."""
    other = dict.fromkeys(("squeue", "scancel", "sacct"), "multi_cluster_squeue")
    run = behind(slurm_run(tmp_path, tars=4), sbatch="multi_cluster_sbatch", **other)
    if told == "by a variable":
        run.env["SLURM_CLUSTERS"] = "other"
        run.submit(*LATER)
        del run.env["SLURM_CLUSTERS"]
    else:
        run.submit(*LATER, "--slurm", "clusters=other")
    (submission,) = run.submissions()
    assert job_of(submission).cluster == "other"
    assert "4 pending" in run.once(check=75).stdout
    assert_one_array(slurm, run)


def test_squeue_that_answers_from_a_snapshot(slurm: RealCluster, tmp_path: Path) -> None:
    """Up to half a minute old, it knows nothing of a job that has just been submitted: who is not seen yet is not gone."""
    run = behind(slurm_run(tmp_path, tars=4), squeue="cached_squeue")
    (tmp_path / "squeue.snapshot").touch()
    run.submit(*LATER)
    assert "1 submission whose state is unknown now" in run.once(check=75).stdout
    assert_one_array(slurm, run)


def test_persons_own_filters_and_a_job_with_another_name(slurm: RealCluster, tmp_path: Path) -> None:
    """What somebody likes to see of the queue hides no job from us, nor does an administrator who renames it."""
    run = slurm_run(tmp_path, tars=4)
    run.env |= {"SQUEUE_STATES": "RUNNING", "SQUEUE_USERS": "nobody", "SQUEUE_PARTITION": "none", "SQUEUE_SORT": "x"}
    run.env |= {"SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "User", "SCANCEL_USER": "nobody", "SBATCH_HINT": "nomultithread"}
    run.submit(*LATER)
    assert "#SBATCH --hint=nomultithread" in run.submissions()[0].script_file.read_text()
    slurm.run("scontrol", "update", f"JobId={run.job_ids()[0]}", "Name=ours-now")
    assert {row.name for row in slurm.squeue()} == {"ours-now"}
    assert "4 pending" in run.once(check=75).stdout
    assert_one_array(slurm, run)


def test_site_that_refuses_for_good(slurm: RealCluster, tmp_path: Path) -> None:
    """Whatever a site's plugin says is told in whole, at once by hpc.submit, and the second time by every round."""
    run = behind(slurm_run(tmp_path, tars=4), sbatch="refusing_sbatch")
    lines = "Please say which project pays: add -A PROJECT", "Batch job submission failed: Unspecified error"
    run.env["WORDS"] = "\n".join(f"sbatch: error: {line}" for line in lines)
    words = run.env["WORDS"].replace("\n", "\n  ")
    assert f"error: sbatch refused the job: {words}\n" in run.submit(check=2).stderr
    assert f"error: stuck: twice the same: sbatch refused the job: {words}\n" in run.once(check=4).stderr
    assert run.once(check=4).stdout.startswith("0 of 4 tars committed")
    assert len(run.submissions()) == 2
    assert slurm.squeue() == []


def gpus(run: SlurmRun) -> Counter[tuple[int, str | None]]:
    """(array task, GPU) of every worker."""
    (submission,) = run.submissions()
    processes = plan_of(submission).processes
    return Counter((slot // processes, report.gpu) for slot, report in run.reports(submission).items())


def test_gpus_that_are_asked_for_in_other_words(slurm: RealCluster, tmp_path: Path) -> None:
    """By --gres, and not at all, where each task has a node to itself: every worker has a GPU of its own."""
    gres = slurm_run(tmp_path / "gres", tars=4, clips=2)
    gres.submit("--gpu-request", "gres", "--gpus-per-node", 2)
    none = slurm_run(tmp_path / "none", tars=4, clips=2)
    none.submit("--gpu-request", "none", "--gpus-per-node", 2, "--setup", "export CUDA_VISIBLE_DEVICES=0,1")
    script = none.submissions()[0].script_file.read_text()
    assert "--exclusive" in script
    assert "gpu" not in "".join(line for line in script.splitlines() if line.startswith("#SBATCH --g"))
    slurm.wait(lambda: not slurm.squeue(), "both runs")
    for run in (gres, none):
        run.once(check=0)
        assert sorted(Counter(element for element, _ in gpus(run)).values()) == [2, 2]
        assert set(gpus(run).values()) == {1}
    assert {gpu for _, gpu in gpus(none)} == {"0", "1"}


def test_tasks_that_are_cancelled_while_they_start(slurm: RealCluster, tmp_path: Path) -> None:
    """They have a log and no report, and count against nobody: the run is not stuck, and the next round submits their tars,
    whether the accounts know yet how they ended or not.
    """
    run = slurm_run(tmp_path, tars=4, clips=2)
    run.submit("--setup", f"while [ -e {run.brake} ]; do sleep 0.1; done", pause=0.1)
    (job,) = run.job_ids()
    slurm.wait(lambda: len(run.logs()) == 4, "four tasks on their way")
    slurm.run("scancel", job)
    slurm.wait(lambda: not slurm.squeue(), "their end")
    run.once(check=75)
    slurm.wait(lambda: slurm.states(job) == 4 * ["CANCELLED by 0"], "their end in the accounting")
    run.once(check=75)  # at the latest: the job is younger than the grace, so only the accounts say that it has ended
    assert len(run.submissions()) == 2
    digest = run.submissions()[0].read_digest()
    assert digest is not None
    assert (digest.silent, digest.stopped) == (0, True)
    run.release()
    run.finish()
    run.assert_complete()
