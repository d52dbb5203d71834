"""What a report knows about a run: values without files. `gather` fills them; plots and page only read them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from hpc.launch import Launch
from jobs.progress import DeviceSeconds
from jobs.records import ErrorRecord, TokenRecord
from jobs.spec import TokenizeSpec
from tools.checking.token_report import TokenReport, report_tokens
from tools.checking.token_totals import TokenTotals

__all__ = [
    "END_WORDS",
    "STATES",
    "End",
    "FailureGroup",
    "RunFacts",
    "SlowTar",
    "SubmissionFacts",
    "Tars",
    "Task",
    "Totals",
    "sum_device",
]

STATES = ("committed", "partial", "not_started", "invalid", "quarantined")
"""States of a tar; `Tars.state` has indexes into it."""

End = Literal["finished", "running", "stopped", "died", "silent"]
"""How a task ended. `stopped`: from outside, or asked to; `died`: its last worker crashed or met trouble with its machine;
`silent`: it has not ended as far as is known, and has reported nothing for minutes.
"""
END_WORDS: dict[End, str] = {
    "finished": "finished",
    "running": "running",
    "stopped": "stopped: time limit, preemption, cancelled or lost node",
    "died": "died: crash or machine trouble",
    "silent": "no report for minutes",
}


@dataclass(frozen=True, slots=True)
class Tars:
    """The run's tars, in list order: one entry in each array."""

    state: npt.NDArray[np.uint8]
    """Index into STATES."""
    audio_seconds: npt.NDArray[np.float64]
    wall_seconds: npt.NDArray[np.float64]
    """Work on a committed tar; 0 for others."""
    bytes: npt.NDArray[np.float64]
    """Size of the tar; 0 where it is unknown."""
    errors: npt.NDArray[np.int64]
    """Error records of a committed tar."""
    committed_at: npt.NDArray[np.float64]
    """Seconds since the epoch, by the file's time of change; NaN for tars that are not committed."""

    def __len__(self) -> int:
        return len(self.state)

    def count(self, state: str) -> int:
        """How many tars are in this state."""
        return int(np.count_nonzero(self.state == STATES.index(state)))

    @property
    def is_committed(self) -> npt.NDArray[np.bool_]:
        """Which tars are committed."""
        return np.equal(self.state, STATES.index("committed"))


@dataclass(frozen=True, slots=True)
class Task:
    """One worker process of an array task, as its report and the time of its report describe it."""

    submission: int
    element: int
    """Array task; several workers may share one."""
    slot: int
    node: str
    gpu: str
    """Its GPU on that node; empty on a CPU."""
    started: float
    """Seconds since the epoch, by the node's clock."""
    ended: float
    """Time of its last report, by the file system's clock; never before `started`."""
    end: End
    audio_seconds: float
    device: DeviceSeconds
    tries: int
    deaths: tuple[float, ...] = ()
    """Where in its tries workers died or met machine trouble: shares of the task, from 0 to 1."""

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class SubmissionFacts:
    """One submission."""

    number: int
    job_id: str
    state: str
    """`intended`, `submitted`, `refused`, or `ended`."""
    words: str
    """What sbatch said, if it refused."""
    elements: int
    processes: int
    tars: int
    intended_at: float
    states: Mapping[str, int]
    """Slurm's final state -> array tasks, where Slurm could tell."""
    silent: int
    """Array tasks that left no report."""


@dataclass(frozen=True, slots=True)
class SlowTar:
    """A committed tar that took long."""

    name: str
    wall_seconds: float
    audio_seconds: float
    clips: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Tries that failed for one reason."""

    reason: str
    tars: int
    examples: tuple[str, ...]
    nodes: tuple[str, ...]
    log_file: str
    log: tuple[str, ...]
    """The end of the log of the latest try."""


@dataclass(slots=True)
class Totals:
    """Sums over committed tars, and over partials where it says so."""

    clips: int = 0
    """With those of partials."""
    audio_seconds: float = 0.0
    """With those of partials and of long clips in hand."""
    errors: dict[str, int] = field(default_factory=dict)
    """Error records by kind."""
    error_tars: int = 0
    damaged_clips: int = 0
    damaged_seconds: float = 0.0
    notes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    orphan_sidecars: int = 0
    sidecar_faults: int = 0
    output_bytes: int = 0
    input_bytes: int = 0
    device: DeviceSeconds = field(default_factory=DeviceSeconds)
    versions: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    """Package versions -> tars committed with them."""


@dataclass(frozen=True)
class RunFacts:
    """A run at one moment."""

    output_dir: str
    made_at: float
    """Seconds since the epoch."""
    tars: Tars
    totals: Totals
    spec: TokenizeSpec | None = None
    launch: Launch | None = None
    outcome: str = ""
    """What the next round would find: finished, running, quarantined or stuck; empty where that is unknown."""
    stopped: str = ""
    """Why nothing more is submitted."""
    quarantine: Mapping[str, str] = field(default_factory=dict)
    """Output name -> reason."""
    exclude: Mapping[str, str] = field(default_factory=dict)
    """Node -> reason."""
    exclusions: Sequence[tuple[float, str]] = ()
    """(when, node) of the first round that avoided a node, from the history."""
    submissions: Sequence[SubmissionFacts] = ()
    tasks: Sequence[Task] = ()
    failures: Sequence[FailureGroup] = ()
    invalid: Mapping[str, str] = field(default_factory=dict)
    """The first of the invalid or missing tars that are not in quarantine: output name -> why."""
    invalid_tars: int = 0
    """How many there are."""
    error_examples: Mapping[str, Sequence[ErrorRecord]] = field(default_factory=dict)
    damaged_examples: Sequence[TokenRecord] = ()
    commands: Sequence[str] = ()
    """Command lines that run failed work again, each after a line that says what for."""
    slowest: Sequence[SlowTar] = ()
    tokens: TokenTotals = field(default_factory=TokenTotals)
    """Of some of the committed tars, taken evenly."""
    problems: Sequence[str] = ()
    """Files of the run that could not be read."""

    @property
    def on_gpu(self) -> bool:
        """Whether its workers use GPUs."""
        device = self.launch.device if self.launch is not None else self.spec.device if self.spec is not None else ""
        return device == "cuda"

    @functools.cached_property
    def not_begun(self) -> int:
        """Array tasks of submissions that have not ended of which nothing is reported: as far as is known, they wait."""
        begun = {(task.submission, task.element) for task in self.tasks}
        open_ones = [each for each in self.submissions if each.state == "submitted"]
        return sum((each.number, element) not in begun for each in open_ones for element in range(each.elements))

    @functools.cached_property
    def token_report(self) -> TokenReport:
        """What `check_progress --tokens` says of these tars."""
        return report_tokens(self.tokens)

    @functools.cached_property
    def device_seconds(self) -> DeviceSeconds:
        """What devices spent their time on, by the tasks' reports; by the manifests where there are no reports."""
        spent = sum_device(self.tasks)
        return spent if spent.total else self.totals.device


def sum_device(tasks: Iterable[Task]) -> DeviceSeconds:
    """What the devices of these tasks spent their time on."""
    spent = [task.device for task in tasks]
    return DeviceSeconds(sum(d.busy for d in spent), sum(d.audio for d in spent), sum(d.writer for d in spent))
