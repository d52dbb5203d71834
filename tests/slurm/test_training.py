"""On a real Slurm: a training is a chain of jobs, whatever ends one of them before the last epoch."""

from __future__ import annotations

from pathlib import Path

from support.real_cluster import RealCluster
from support.slurm_runs import slurm_run
from support.taste_runs import make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm

from jobs.taste.status import Status, read_status

EPOCHS = 12
STEPS = 21 * EPOCHS
"""Enough that the first job is found at work."""


def test_two_jobs_to_the_last_epoch(slurm: RealCluster, tmp_path: Path) -> None:
    """Slurm's signal before the time limit ends the first job, of two processes, at a checkpoint. A round from cron, with an
    empty environment, submits the second, which goes on there and ends the training.
    """
    run = slurm_run(tmp_path, tars=0)
    model, data = build_speech_lm(tmp_path / "model"), make_taste_run(tmp_path / "data", {"a": some_speech(23)})
    config = tmp_path / "taste.yaml"
    config.write_text(f"model_path: {model}\nepochs: {EPOCHS}\ntest_ratio: 0.2\nbatch_size: 1\ncheckpoint_steps: 5\n")
    words = ("--train", config, "--data", data, "--cluster", "slurm", "--device", "cpu", "--procs-per-gpu", 2, "--time", 5)
    assert "each on one node with no GPU and 2 workers" in run.command("hpc.submit", *words).stdout

    def status() -> Status | None:
        return read_status(run.output)

    slurm.wait(lambda: (found := status()) is not None and found.saved >= 5, "the first checkpoint")
    assert run.cron() == 75, "it is at work"
    [job] = run.job_ids()
    slurm.run("scancel", "--signal=USR2", job)
    slurm.wait(lambda: not slurm.squeue(), "the first job to end")
    first = status()
    assert first is not None
    assert 0 < first.saved < STEPS
    assert run.cron() == 75
    slurm.wait(lambda: not slurm.squeue(), "the second job to end")
    assert run.cron() == 0
    last = status()
    assert last is not None
    assert (last.epoch, last.saved) == (EPOCHS, STEPS)
    tries = [attempt for _, _, attempt in run.tries()]
    assert [(attempt.outcome, attempt.gained) for attempt in tries] == [
        ("yielded", first.saved),
        ("committed", STEPS - first.saved),
    ]
    assert len((run.output / "metrics.csv").read_text().splitlines()) == 1 + EPOCHS
    assert f"{EPOCHS} of {EPOCHS} epochs done" in run.command("tools.check_progress").stdout
