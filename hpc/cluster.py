"""The protocol of places where tasks run, Slurm or this machine, and its errors."""

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
    """Slurm takes no more jobs for now. This is normal: the rest waits."""


class SubmitUncertainError(InfrastructureError):
    """Whether the job was submitted is not known. It has to be looked up by name before the next try."""


class SubmitRefusedError(UsageError):
    """Slurm refuses the job, with no sign that this will pass. The message quotes Slurm in full."""


class Cluster(Protocol):
    """Where tasks run: Slurm, or this machine."""

    def max_array(self, launch: Launch) -> int:
        """The largest number of elements of one array."""

    def slots(self, launch: Launch, tars: int) -> int | None:
        """Number of workers over which `tars` are spread; None where the plan decides."""

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """Submission -> its job, or None if it is in no queue. Jobs that cannot be looked up now are left out."""

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        """Submit one array. Raises SubmitLimitError, SubmitUncertainError, SubmitRefusedError, or another UsageError."""

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """Submission -> element -> its state, final or not. Submissions without accounting are left out."""

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Keep the pending tasks of these jobs away from nodes."""

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """End all tasks, or only pending ones. Running tasks flush what is in hand if that is quick."""
