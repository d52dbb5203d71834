"""What every place where tasks run offers, and what it may answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from hpc.launch import Launch
from hpc.slurm_words import JobNumber, JobSeen, TaskSeen
from hpc.submissions import Job, Submission

__all__ = [
    "Cluster",
    "JobNumber",
    "JobSeen",
    "SubmitLimitError",
    "SubmitRefusedError",
    "SubmitUncertainError",
    "TaskSeen",
]


class SubmitLimitError(Tar2TokensError):
    """Slurm takes no more jobs for now. No trouble: the rest waits."""


class SubmitUncertainError(InfrastructureError):
    """Nobody knows whether the job was submitted. Its name has to be looked up before anyone tries again."""


class SubmitRefusedError(UsageError):
    """Slurm does not take the job, and nothing says that this passes. The message has all of its words."""


class Cluster(Protocol):
    """Where tasks run: Slurm, or this machine."""

    def max_array(self, launch: Launch) -> int:
        """How many elements one array may have."""

    def slots(self, launch: Launch, tars: int) -> int | None:
        """Over how many workers so many tars are spread; None where that is the plan's to say."""

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """Submission -> its job. None for a job that nobody has heard of; what cannot be told now is left out."""

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        """Submit. Raises SubmitLimitError, SubmitUncertainError, SubmitRefusedError, or another UsageError."""

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """Submission -> element -> how it ended, or is; a submission of which nobody keeps accounts is left out."""

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Keep the tasks of these jobs that have not begun away from nodes."""

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """End the tasks, or those that have not begun, each after what it has in hand if that is quick."""
