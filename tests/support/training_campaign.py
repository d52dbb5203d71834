"""A training under the controller on a fake cluster, with whose jobs a test does what it likes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpc.controller import Round
from hpc.run import Run
from jobs.progress import Ending, Progress, Try, write_progress
from jobs.taste.settings import read_settings
from jobs.taste.status import CHECKPOINT, Status, write_status
from jobs.taste.training import NAME, Training
from support.fake_cluster import Campaign, QueuedJob

__all__ = ["TrainingCampaign", "tell_status"]


def tell_status(
    folder: Path, *, epoch: int = 0, step: int = 0, saved: int = 0, changes: Mapping[str, object] | None = None
) -> None:
    """What a training of three epochs says of itself, with a checkpoint if any step is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = read_settings(None, {"epochs": 3, **(changes or {})}).plain()
    write_status(folder, Status(settings=settings, epochs=3, epoch=epoch, step=step, saved=saved, in_epoch=1, steps=5))
    if saved:
        (folder / CHECKPOINT).touch()


class TrainingCampaign(Campaign):
    """A training of three epochs, two processes on each node."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, gpus_per_node=2, training=True)
        self.run = Run(folder / "trained")
        self.change_state(
            run_id="abc",
            launch=self.launch,
            training=Training(settings=read_settings(None, {"epochs": 3}).plain(), data=("/data/run",)),
        )

    def round(self) -> Round:
        """A controller looks, a minute and more after the last one."""
        self.clock.now += 100
        return self.controller().round()

    def job(self) -> QueuedJob:
        """The one job that lives."""
        (job,) = self.cluster.living()
        return job

    def end(self, outcome: Ending, *, gained: int = 0, problem: str = "", node: str = "n1", how: str = "FAILED") -> None:
        """The job ends after a try with this outcome; `how` is what the accounts say."""
        job = self.job()
        attempt = Try(NAME, outcome, gained=gained, problem=problem, alone=True)
        self.cluster._log(job, 0, 0, f"last words: {problem}")
        write_progress(job.submission.report_file(0), Progress(node=node, tries=[attempt], finished=outcome != "working"))
        self.cluster.lose(job, 0, how)
