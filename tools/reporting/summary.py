"""Pure: the figures of a report: rates, remaining time, costs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpc.launch import Launch
from jobs.progress import DeviceSeconds
from tools.reporting.facts import STATES, RunFacts, SubmissionFacts, Task, sum_device

__all__ = [
    "Cost",
    "Forecast",
    "Speed",
    "audio_rate",
    "cost_of",
    "forecast",
    "gpu_hours",
    "last_commit",
    "speeds",
    "union_seconds",
]

RECENT_SHARE, RECENT_SECONDS = 0.15, 1800.0
"""Without a running task's report the rate is that of the last part of the run, at least so long."""
MOST_HOURS = 100 * 365 * 24.0
"""Workers that have only begun seem slower than they are. What takes longer than this is no forecast, and has no date."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Speed:
    """What a group of tasks achieved: those of a submission, a node or a GPU."""

    name: str
    tasks: int
    worker_hours: float
    hours: float
    """Time during which at least one of them ran."""
    audio_hours: float
    device: DeviceSeconds
    deaths: int

    @property
    def per_hour(self) -> float:
        """Audio-hours per hour of the whole group."""
        return self.audio_hours / self.hours if self.hours > 0 else 0.0

    @property
    def per_worker_hour(self) -> float:
        """Audio-hours per hour of one worker."""
        return self.audio_hours / self.worker_hours if self.worker_hours > 0 else 0.0

    @property
    def audio_wait(self) -> float | None:
        """Share of the devices' time spent on waiting for audio."""
        return self.device.audio / self.device.total if self.device.total > 0 else None


def speeds(tasks: Iterable[Task], key: Callable[[Task], Hashable]) -> list[Speed]:
    """One Speed per value of `key`, in the order in which these first occur."""
    groups: dict[Hashable, list[Task]] = {}
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    return [
        Speed(
            name=str(name),
            tasks=len(found),
            worker_hours=sum(task.seconds for task in found) / 3600,
            hours=union_seconds([(task.started, task.ended) for task in found]) / 3600,
            audio_hours=sum(task.audio_seconds for task in found) / 3600,
            device=sum_device(found),
            deaths=sum(len(task.deaths) for task in found),
        )
        for name, found in groups.items()
    ]


def union_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """The time that at least one of these (start, end) covers."""
    covered, until = 0.0, -np.inf
    for start, end in sorted(spans):
        if end > until:
            covered += end - max(start, until)
            until = end
    return covered


def audio_rate(tasks: Sequence[Task], bins: int) -> tuple[Floats, Floats]:
    """Edges of `bins` equal stretches of time, and the audio-hours per hour within each.

    A task's audio is spread evenly over its duration. Empty arrays without tasks.
    """
    spans = [(task.started, task.ended, task.audio_seconds) for task in tasks if task.seconds > 0]
    if not spans:
        return np.zeros(0), np.zeros(0)
    start, end, audio = (np.array(column) for column in zip(*spans, strict=True))
    edges = np.linspace(start.min(), end.max(), bins + 1)
    # Audio up to each edge: a sum of ramps. np.interp over sorted starts and ends needs no loop over tasks.
    total = _ramps(start, end, audio / (end - start), edges)
    return edges, np.maximum(np.diff(total) / np.diff(edges), 0.0)


def _ramps(start: Floats, end: Floats, slope: Floats, at: Floats) -> Floats:
    """The sum over all tasks of slope * (at - start), within [start, end], for each of `at`."""

    def after(moments: Floats) -> Floats:
        order = np.argsort(moments)
        slopes = np.concatenate([[0.0], np.cumsum(slope[order])])
        offsets = np.concatenate([[0.0], np.cumsum(slope[order] * (moments[order] - base))])
        place = np.searchsorted(moments[order], at, side="right")
        found: Floats = slopes[place] * (at - base) - offsets[place]
        return found

    base = float(start.min())  # epochs have too few digits left for a difference of two sums
    return after(start) - after(end)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How fast a run is now, and when it will be done."""

    rate: float
    """Audio-hours per hour; 0 where nothing runs."""
    audio_hours_left: float | None
    """Estimated from the audio per byte so far; None before anything is known."""
    hours_left: float | None
    """None where that cannot be said."""
    basis: str
    """What the rate is measured on."""


def forecast(facts: RunFacts) -> Forecast:
    """The rate of the running tasks, and the remaining time at that rate."""
    tars = facts.tars
    committed = tars.is_committed
    wanted = ~committed & (tars.state != STATES.index("quarantined"))
    done_bytes, done_audio = float(tars.bytes[committed].sum()), float(tars.audio_seconds[committed].sum())
    left = None
    if not wanted.any():
        left = 0.0
    elif done_bytes > 0 and done_audio > 0:
        per_byte, per_tar = done_audio / done_bytes, done_audio / int(committed.sum())
        unknown = int(np.count_nonzero(wanted & (tars.bytes == 0)))  # they are not there now, or at an address
        whole = float(tars.bytes[wanted].sum()) * per_byte + unknown * per_tar
        left = max(0.0, whole - float(tars.audio_seconds[wanted].sum())) / 3600
    running = [task for task in facts.tasks if task.end == "running"]
    seconds = sum(task.seconds for task in running)
    rate = len(running) * sum(task.audio_seconds for task in running) / seconds if seconds > 0 else 0.0
    basis = "the tasks that run now"
    if running and rate == 0:
        rate, basis = _recent_rate(facts), "the latest commits"
    if left == 0:
        return Forecast(rate, left, 0.0, basis)
    hours_left = left / rate if left is not None and rate > 0 else None
    return Forecast(rate, left, hours_left if hours_left is not None and hours_left <= MOST_HOURS else None, basis)


def _recent_rate(facts: RunFacts) -> float:
    at = facts.tars.committed_at[facts.tars.is_committed]
    audio = facts.tars.audio_seconds[facts.tars.is_committed]
    at, audio = at[np.isfinite(at)], audio[np.isfinite(at)]
    if not len(at):
        return 0.0
    window = max(RECENT_SECONDS, RECENT_SHARE * (facts.made_at - float(at.min())))
    recent = at > facts.made_at - window
    return float(audio[recent].sum()) / window


def last_commit(facts: RunFacts) -> float | None:
    """When a tar was last committed, in seconds since the epoch."""
    at = facts.tars.committed_at[np.isfinite(facts.tars.committed_at)]
    return float(at.max()) if len(at) else None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the run has cost so far."""

    unit: str
    """`GPU-hours`, or `worker-hours` without GPUs."""
    hours: float
    audio_hours: float
    """Audio that became tokens and is kept."""
    repeated_hours: float
    """Audio that was encoded again because a task was interrupted, as far as reports tell."""
    hours_left: float | None
    """Of the remaining audio at this price."""

    @property
    def what(self) -> str:
        """`GPU time`, or `worker time`."""
        return self.unit.replace("-hours", " time")

    @property
    def per_thousand(self) -> float | None:
        """Hours for 1,000 hours of audio."""
        return 1000 * self.hours / self.audio_hours if self.audio_hours > 0 else None


def gpu_hours(tasks: Sequence[Task], submissions: Sequence[SubmissionFacts], launch: Launch | None) -> float:
    """GPU-hours of these tasks, or hours of their workers where no GPU is used.

    An array task holds all of its GPUs until its last worker has ended; workers that share a GPU count once.
    """
    if launch is None or launch.device != "cuda":
        return sum(task.seconds for task in tasks) / 3600
    processes = {each.number: each.processes for each in submissions}
    spans: dict[tuple[int, int], tuple[float, float]] = {}
    for task in tasks:
        start, end = spans.get((task.submission, task.element), (np.inf, -np.inf))
        spans[task.submission, task.element] = min(start, task.started), max(end, task.ended)
    return sum(
        (end - start) * max(1.0, processes.get(submission, 1) / launch.procs_per_gpu)
        for (submission, _), (start, end) in spans.items()
    ) / 3600  # fmt: skip


def cost_of(facts: RunFacts, left_hours: float | None) -> Cost:
    """The cost so far, and of `left_hours` more of audio at the same price."""
    hours = gpu_hours(facts.tasks, facts.submissions, facts.launch)
    if not facts.tasks:
        hours = float(facts.tars.wall_seconds.sum()) / 3600
    audio = facts.totals.audio_seconds / 3600
    encoded = sum(task.audio_seconds for task in facts.tasks) / 3600
    price = hours / audio if audio > 0 else None
    return Cost(
        unit="GPU-hours" if facts.on_gpu else "worker-hours",
        hours=hours,
        audio_hours=audio,
        repeated_hours=max(0.0, round(encoded - audio, 3)),
        hours_left=left_hours * price if left_hours is not None and price is not None else None,
    )
