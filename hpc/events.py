"""The events of a run, as lines of `.run/events.jsonl`. docs/monitoring.md describes them for readers of the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from jobs.progress import DeviceSeconds

__all__ = [
    "EVENTS",
    "VERSION",
    "Event",
    "NodeExcluded",
    "RoundDone",
    "RunContinued",
    "RunFinished",
    "RunStarted",
    "RunStuck",
    "Said",
    "SubmissionEnded",
    "SubmissionRefused",
    "SubmissionSent",
    "TarCommitted",
    "TarDamaged",
    "TarQuarantined",
    "TaskEnded",
    "TaskStarted",
    "TrainingCounts",
    "seconds_of",
]

VERSION = 1
"""Of all events. A field or an event that is added keeps it; one that is removed, renamed or changed raises it."""


class TrainingCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a training is."""

    epochs: int
    """Epochs to train in all."""
    epoch: int
    """Whole epochs so far."""
    step: int
    """Optimizer steps so far."""
    loss: float | None = None
    """Of the last step."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """What all events have. `event`, the name, is the tag."""

    version: int = VERSION
    """Of the format."""
    id: str
    """Unique within the run."""
    time: str
    """When the round that saw it wrote it: UTC, ISO 8601."""
    run: str
    """The run's random id."""


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """The run's first round."""

    output_dir: str
    host: str
    """Where the round was."""
    tars: int
    """Tars of the list; 1 for a training."""
    training: TrainingCounts | None = None


class RunContinued(Event, frozen=True, kw_only=True, tag="run_continued"):
    """The run goes on after it was finished or stuck."""

    host: str
    tars: int
    training: TrainingCounts | None = None


class RunFinished(Event, frozen=True, kw_only=True, tag="run_finished"):
    """Every tar is committed or in quarantine."""

    tars: int
    committed: int
    quarantined: int
    training: TrainingCounts | None = None


class RunStuck(Event, frozen=True, kw_only=True, tag="run_stuck"):
    """Nothing runs, and nothing more is submitted."""

    tars: int
    committed: int
    quarantined: int
    diagnosis: str
    """Why; of a run that was cancelled, that it was."""
    training: TrainingCounts | None = None


class RoundDone(Event, frozen=True, kw_only=True, tag="round"):
    """The run's figures after a round."""

    outcome: str
    """`running`, `finished`, `quarantined` or `stuck`."""
    tars: int
    committed: int
    quarantined: int
    clips: int
    """Lines of committed files and partials."""
    errors: int
    """Error records in committed files."""
    damaged_clips: int
    """Clips kept with a part missing."""
    audio_seconds: float
    """Audio in committed files, partials and long clips in progress."""
    encoded_seconds: float
    """Audio that the run's tasks have encoded, some of it more than once."""
    bytes_done: int
    bytes_total: int
    """Size of the tars that are not in quarantine."""
    tasks_running: int
    tasks_pending: int
    submitted: tuple[int, ...] = ()
    """Submissions that this round sent."""
    tars_waiting: int = 0
    """Tars that Slurm has not accepted a job for yet."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """What the devices of the running tasks spent their time on."""
    seconds: float
    """Duration of the round."""
    scan_seconds: float
    """The part of it that scanned the tars' files."""
    training: TrainingCounts | None = None


class SubmissionSent(Event, frozen=True, kw_only=True, tag="submission_sent"):
    """An array was submitted."""

    submission: int
    job_id: str
    elements: int
    """Its array tasks."""


class SubmissionRefused(Event, frozen=True, kw_only=True, tag="submission_refused"):
    """Slurm refused an array."""

    submission: int
    reason: str


class SubmissionEnded(Event, frozen=True, kw_only=True, tag="submission_ended"):
    """All tasks of an array have ended."""

    submission: int
    reported: int
    """Worker processes that left a report."""
    silent: int
    """Array tasks that exited before starting work."""
    states: dict[str, int]
    """Slurm's final state -> array tasks, where Slurm could tell."""


class TaskStarted(Event, frozen=True, kw_only=True, tag="task_started"):
    """A worker process has reported for the first time."""

    task: str
    """SUBMISSION/SLOT."""
    node: str
    gpu: str | None


class TaskEnded(Event, frozen=True, kw_only=True, tag="task_ended"):
    """A worker process has ended. The figures are those of its last report."""

    task: str
    node: str
    gpu: str | None
    finished: bool
    """It ended by itself."""
    outcomes: dict[str, int]
    """Outcome of a try at a tar -> number. `loading` and `working`: it was ended from outside."""
    gained: int
    """Lines that it added, or steps of a training."""
    clips: int
    errors: int
    audio_seconds: float
    device_seconds: DeviceSeconds
    problem: str
    """Of its last try."""


class TarCommitted(Event, frozen=True, kw_only=True, tag="tar_committed"):
    """A tar's output is complete."""

    tar: str
    """The name of its output."""
    attempt: str
    clips: int
    errors: dict[str, int]
    """Error records by kind."""
    damaged_clips: int
    audio_seconds: float
    input_bytes: int
    wall_seconds: float


class TarDamaged(Event, frozen=True, kw_only=True, tag="tar_damaged"):
    """An attempt found that the tar itself is broken."""

    tar: str
    attempt: str
    verdict: str
    reason: str


class TarQuarantined(Event, frozen=True, kw_only=True, tag="tar_quarantined"):
    """The run has given a tar up."""

    tar: str
    reason: str


class NodeExcluded(Event, frozen=True, kw_only=True, tag="node_excluded"):
    """The run avoids a node."""

    node: str
    reason: str


def seconds_of(event: Event) -> float:
    """The event's time, in seconds since the epoch. Raises ValueError if it is none."""
    return datetime.fromisoformat(event.time).timestamp()


EVENTS: tuple[type[Event], ...] = (
    *(RunStarted, RunContinued, RunFinished, RunStuck, RoundDone),
    *(SubmissionSent, SubmissionRefused, SubmissionEnded, TaskStarted, TaskEnded),
    *(TarCommitted, TarDamaged, TarQuarantined, NodeExcluded),
)


@dataclass
class Said:
    """What the file has."""

    ids: set[str] = field(default_factory=set)
    runs: int = 0
    """Events about the run as a whole."""
    rounds: int = 0
    last_run: str = ""
    """The name of the last event about the run as a whole."""
    last_round: RoundDone | None = None
