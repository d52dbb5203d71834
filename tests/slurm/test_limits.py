"""On a real Slurm: what the site takes away (time, room in the queue, jobs, nodes) costs a run no clip and no person."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.real_cluster import RealCluster
from support.slurm_runs import SlurmRun, job_of, plan_of, slurm_run
from support.small_run import small_tar


def test_tars_that_need_three_time_limits_and_cron_with_an_empty_environment(slurm: RealCluster, tmp_path: Path) -> None:
    """Tasks yield before their minute is over, and go on at the next clip. The rounds know nothing but the run directory:
    not the site's PATH, not where its backend is installed. The first tasks and the last have a whole minute; those
    between them take theirs to have begun 30 s earlier.
    """
    run = slurm_run(tmp_path, tars=2, clips=100)
    haste = tmp_path / "haste"
    run.submit("--time", 1, "--setup", f"[ ! -e {haste} ] || job_started=$((job_started - 30))", pause=2)
    for attempt in (1, 2, 3):
        slurm.wait(lambda: len(slurm.squeue()) == 2, "two tasks")
        assert run.cron() == 75, "the tasks are at work"
        if attempt == 3:  # both at work: who is done would help with a tar that nobody is at
            slurm.wait(lambda: len(run.claims()) == 2, "both workers")
            run.release()
        elif attempt == 2:
            slurm.wait(lambda: len(run.claims()) == 2, "both workers")
            haste.unlink()
        slurm.wait(lambda: not slurm.squeue(), f"attempt {attempt} to end")
        if attempt == 1:
            haste.touch()
        assert run.cron() == (75 if attempt < 3 else 0)
    assert [len(run.reports(submission)) for submission in run.submissions()] == [2, 2, 2]
    assert [attempt.outcome for _, _, attempt in run.tries()] == [*4 * ["yielded"], *2 * ["committed"]]
    assert sum(text.endswith("yielded\n") for _, text in run.logs()) == 4
    for job in run.job_ids():
        slurm.wait(partial(lambda job: slurm.states(job) == ["COMPLETED", "COMPLETED"], job), f"job {job} in the accounting")
    run.assert_nothing_twice()
    run.assert_complete()


def test_small_arrays_and_few_jobs(slurm: RealCluster, tmp_path: Path) -> None:
    """A site that takes arrays of 5 and keeps 4 tasks of a user: no error, the rest waits for a later round."""
    slurm.configure(MaxArraySize=5)
    slurm.set_limit(MaxSubmitJobs=4)
    run = slurm_run(tmp_path, tars=16)
    assert "wait until Slurm takes more jobs" in run.submit(pause=0.1).stdout
    assert "error:" not in run.finish().stderr
    plans = [plan_of(submission) for submission in run.submissions()]
    assert max(plan.elements for plan in plans) == 5
    jobs = [job_of(submission) for submission in run.submissions()]
    assert any("AssocMaxSubmitJobLimit" in job.words for job in jobs if job.state == "refused")
    assert len(run.job_ids()) >= 4
    run.assert_complete()


def test_cancelled_elements_are_submitted_again(slurm: RealCluster, tmp_path: Path) -> None:
    """One that runs and two that have not begun, of one of which the accounting never tells; the last element works on."""
    run = slurm_run(tmp_path, tars=4)
    run.tars = [small_tar(tar, clips=100) for tar in run.tars]
    run.tars[0] = small_tar(run.tars[0], clips=150)  # the first element's: the largest comes first
    run.submit("--max-running", 2, pause=1)
    [job] = run.job_ids()
    slurm.wait(lambda: slurm.state(f"{job}_1") == "RUNNING" and run.lines() >= 4, "two running elements")
    assert slurm.state(f"{job}_2") == "PENDING"
    slurm.run("scancel", f"{job}_2")
    slurm.run("scancel", f"{job}_1", f"{job}_3")
    slurm.wait(lambda: [row.id for row in slurm.squeue()] == [f"{job}_0"], "three elements less")
    assert run.once().returncode == 75
    first, second = (plan_of(submission) for submission in run.submissions())
    assert set(second.slots) == set(first.slots[1:]), "these three tars and no others"
    assert slurm.state(f"{job}_0") == "RUNNING"
    run.release()
    run.finish()
    assert slurm.states(f"{job}_1") == ["CANCELLED by 0"]
    assert slurm.states(f"{job}_2") == [""]
    run.assert_nothing_twice()
    run.assert_complete()


@pytest.fixture
def high(slurm: RealCluster) -> Iterator[str]:
    """The name of a quality of service whose jobs take the place of everybody's."""
    slurm.run("sacctmgr", "-i", "add", "qos", "high", "priority=1000", "preempt=normal")
    slurm.run("sacctmgr", "-i", "modify", "user", "root", "set", "qos=normal,high", "defaultqos=normal")
    yield "high"
    slurm.run("sacctmgr", "-i", "modify", "user", "root", "set", "qos=normal")
    slurm.run("sacctmgr", "-i", "delete", "qos", "high")


def on_node(slurm: RealCluster, run: SlurmRun, node: str) -> int:
    """How many of the run's tasks are on a node."""
    return sum(row.node == node for job in run.job_ids() for row in slurm.squeue(job))


def test_preempted_tasks_come_back(slurm: RealCluster, tmp_path: Path, high: str) -> None:
    """A job of more importance takes their node. They go on elsewhere, where they were, while it still runs."""
    run = slurm_run(tmp_path, tars=4, clips=100)
    run.submit(pause=1)
    slurm.wait(lambda: on_node(slurm, run, "n1") == 4 and run.lines() >= 8, "four tasks at work on n1")
    important = slurm.sbatch("sleep 600", f"--qos={high}", "--nodelist=n1", "--exclusive")
    slurm.wait(lambda: slurm.state(important) == "RUNNING", "the important job")
    slurm.wait(lambda: on_node(slurm, run, "n1") == 0, "the tasks to end")
    [job] = run.job_ids()
    slurm.wait(lambda: slurm.states(job) == 4 * ["PREEMPTED"], "their end in the accounting")
    before = run.lines()
    run.release()
    run.finish()
    assert slurm.state(important) == "RUNNING"
    _, second = run.submissions()
    gained = [attempt.gained for report in run.reports(second).values() for attempt in report.tries]
    assert sum(gained) == 4 * 100 - before > 0
    run.assert_complete()
