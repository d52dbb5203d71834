"""On a real Slurm: a list becomes complete files whatever the shape of jobs and whoever goes round."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from support.real_cluster import RealCluster
from support.runs import committed_bytes
from support.slurm_runs import plan_of, slurm_run


@pytest.mark.parametrize("shape", [[], ["--gpus-per-node", 4]], ids=["shared nodes", "whole nodes"])
def test_24_tars_on_16_gpus(slurm: RealCluster, tmp_path: Path, shape: list[object]) -> None:
    """One GPU per array task, or a worker per GPU of a whole node: every tar is committed, and each GPU had one worker."""
    run = slurm_run(tmp_path, tars=24)
    run.submit(*shape, pause=60)
    slurm.wait(lambda: len(run.claims()) == 16, "16 workers")
    run.release()
    run.finish()
    logs = [path.read_text() for path in (run.output / ".run" / "submissions" / "0001" / "logs").iterdir()]
    places = [line.partition(", on ")[2] for log in logs for line in log.splitlines() if ", on n" in line]
    assert len(set(places)) == 16
    run.assert_complete()


def test_two_workers_per_gpu_and_three_tars_per_gpu(slurm: RealCluster, tmp_path: Path) -> None:
    """24 tars, three to a GPU: 8 GPUs in 4 jobs of 2, and each GPU has two workers at once."""
    run = slurm_run(tmp_path, tars=24)
    run.submit("--gpus-per-node", 2, "--procs-per-gpu", 2, "--tars-per-gpu", 3, pause=60)
    slurm.wait(lambda: len(slurm.squeue()) == 4 and {row.state for row in slurm.squeue()} == {"RUNNING"}, "four jobs")
    [submission] = run.submissions()
    slurm.wait(lambda: len(run.reports(submission)) == 16, "16 workers")
    nodes = {int(row.id.partition("_")[2]): row.node for row in slurm.squeue()}
    places = Counter((slot // 4, report.node, report.gpu) for slot, report in run.reports(submission).items())
    assert len(places) == 8
    assert set(places.values()) == {2}
    assert all(nodes[element] == node for element, node, _ in places)
    assert sum(len(slot) for slot in plan_of(submission).slots) == 24
    run.release()
    run.finish()
    run.assert_complete()


def test_a_list_grows_while_never_more_than_three_tasks_run(slurm: RealCluster, tmp_path: Path) -> None:
    """--max-running holds for all submissions of a run together; a second hpc.submit beside a watch adds its tars."""
    run = slurm_run(tmp_path, tars=10)
    tars, run.tars = run.tars, run.tars[:6]
    run.submit("--max-running", 3, pause=60)

    def running() -> int:
        return sum(row.state == "RUNNING" for row in slurm.squeue())

    with run.watching() as watch:
        slurm.wait(lambda: run.lines() >= 3, "tasks at work")
        run.tars = tars
        run.submit("--max-running", 3, pause=60)
        slurm.wait(lambda: running() == 3, "three tasks")
        assert committed_bytes(run.output) == {}
        run.release()
        most = 3
        while watch.process.poll() is None:
            most = max(most, running())
    assert most == 3
    run.finish()
    assert len(run.job_ids()) > 1
    run.assert_nothing_twice()
    run.assert_complete()


def test_a_chain_of_jobs_goes_on_by_itself_until_it_is_cancelled(slurm: RealCluster, tmp_path: Path) -> None:
    """Three generations without a process on the login node: tasks that USR2 stops yield within a clip, and the next ones go
    on at the next clip. hpc.cancel ends tasks and chain; after hpc.submit a new chain brings the run to its end and is gone.
    """
    run = slurm_run(tmp_path, tars=2, clips=150)
    words = "--time", 5
    run.submit(*words, pause=1)
    run.command("hpc.resume", "--chain")
    for generation in (1, 2, 3):
        before = run.lines()
        slurm.wait(partial(lambda number: len(run.job_ids()) == number, generation), f"generation {generation}")
        job = run.job_ids()[-1]
        slurm.wait(partial(lambda before: run.lines() >= before + 6, before), "tasks at work")
        slurm.wait(lambda: any(row.reason == "Dependency" for row in slurm.squeue()), "a successor")
        if generation < 3:
            before = run.lines()
            slurm.run("scancel", "--signal=USR2", job)
            slurm.wait(partial(lambda job: not slurm.squeue(job), job), "the tasks to yield")
            assert run.lines() < before + 20
            slurm.wait(
                partial(lambda job: slurm.states(job) == ["COMPLETED", "COMPLETED"], job), "their end in the accounting"
            )
    run.command("hpc.cancel")
    slurm.wait(lambda: not slurm.squeue(), "nothing in the queue")
    assert [attempt.outcome for _, _, attempt in run.tries()] == 6 * ["yielded"]
    run.assert_nothing_twice()
    assert run.once().returncode == 4, "cancelled: nothing is submitted"
    assert len(run.job_ids()) == 3

    run.submit(*words)  # this time without pauses
    run.command("hpc.resume", "--chain")
    slurm.wait(lambda: not slurm.squeue(), "the end of the chain")
    assert len(committed_bytes(run.output)) == 2
    assert "2 of 2 tars committed" in (run.output / ".run" / "chain.log").read_text()
    run.assert_nothing_twice()
    run.assert_complete()
