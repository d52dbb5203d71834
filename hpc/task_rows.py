"""Pure: what each running worker does and how fast it is, from its reports in one round after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hpc.controller import Round
from hpc.stalls import REPORTED_SECONDS
from hpc.task_id import TaskId
from jobs.progress import UNENDED, DeviceSeconds, Progress

__all__ = ["TaskFollower", "TaskRow", "sum_rows", "urgent_first"]

WINDOW_SECONDS = 60.0
"""Rates and shares are of the last one to two windows."""
MEASURABLE = 0.01
"""Seconds of audio per second; a worker that makes less counts as one that stands."""
NOTHING = DeviceSeconds()


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one moment."""

    task: str
    """SUBMISSION/SLOT"""
    node: str = ""
    gpu: str | None = None
    tar: str = ""
    """The tar in hand; empty before the first, and between two."""
    share: float | None = None
    """How much of it is used, by bytes; None where its size is unknown."""
    clips: int = 0
    """Clips that got a line in the tars of this worker."""
    speed: float | None = None
    """Seconds of audio per second; None before there is a rate."""
    progressed: float = 0.0
    """Seconds since the epoch of the last progress that was seen."""
    looked: float = 0.0
    """The same of the last look: what happened since is not known."""
    device: DeviceSeconds = DeviceSeconds()
    loading: bool = False
    """Its backend is not loaded yet."""
    stuck: str = ""
    """The step that makes no progress, of a worker that its witness reports."""

    @property
    def stale(self) -> bool:
        """Whether it has made no progress for so long that the user should look. Rounds may be further apart than that."""
        return bool(self.stuck) or self.looked - self.progressed >= REPORTED_SECONDS


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    audio_seconds: float = 0.0
    device: DeviceSeconds = NOTHING


@dataclass(slots=True)
class _Followed:
    older: _Sample
    """What rates are measured from."""
    newer: _Sample
    """What they are measured from once it is a window old."""
    signs: object
    """Changes with each progress."""
    progressed: float


class TaskFollower:
    """Remembers what the workers reported in earlier rounds."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Followed] = {}

    def look(self, seen: Round, now: float) -> list[TaskRow]:
        """A row for each running worker that has reported, in the order of their names. `now`: seconds since the epoch."""
        stalls = {still.task: still for still in seen.stalls}
        before, self._known = self._known, {}
        rows = []
        for number, reports in sorted(seen.reports.items()):
            for slot, report in sorted(reports.items()):
                key = (number, slot)
                if report.finished or key not in seen.at_work:
                    continue
                followed = self._known[key] = _follow(before.get(key), report, now)
                row = _row(str(TaskId(number, slot)), report, followed, seen, now)
                if (still := stalls.get(row.task)) is not None:
                    progressed = min(row.progressed, still.since)
                    row = msgspec.structs.replace(row, progressed=progressed, stuck=still.what)
                rows.append(row)
        return rows


def _follow(before: _Followed | None, report: Progress, now: float) -> _Followed:
    sample = _Sample(now, report.audio_seconds, report.device_seconds)
    last = report.tries[-1] if report.tries else None
    signs = (report.clips, sample.audio_seconds, report.bytes_done, sample.device, len(report.tries), last and last.outcome)
    if before is None or before.newer.audio_seconds > sample.audio_seconds:  # the latter where a report was lost
        start = _Sample(report.started) if 0 < report.started < now else sample
        return _Followed(start, sample, signs, now)
    rolled = now - before.newer.at >= WINDOW_SECONDS
    return _Followed(
        older=before.newer if rolled else before.older,
        newer=sample if rolled else before.newer,
        signs=signs,
        progressed=now if signs != before.signs else before.progressed,
    )


def _row(task: str, report: Progress, followed: _Followed, seen: Round, now: float) -> TaskRow:
    in_hand = [attempt for attempt in report.tries if attempt.outcome in UNENDED]
    sizes = [seen.tar_bytes.get(attempt.name, 0) for attempt in in_hand]
    wall, older = now - followed.older.at, followed.older
    more = f" +{len(in_hand) - 1}" if len(in_hand) > 1 else ""
    return TaskRow(
        task=task,
        node=report.node,
        gpu=report.gpu,
        tar=f"{in_hand[0].name}{more}" if in_hand else "",
        share=min(1.0, report.tar_bytes / sum(sizes)) if sizes and all(sizes) else None,
        clips=report.clips,
        speed=(report.audio_seconds - older.audio_seconds) / wall if wall > 0 else None,
        progressed=followed.progressed,
        looked=now,
        device=report.device_seconds - older.device,
        loading=not report.tries or (bool(in_hand) and all(attempt.outcome == "loading" for attempt in in_hand)),
    )


def urgent_first(rows: Sequence[TaskRow]) -> list[TaskRow]:
    """The stalest first, then the slowest; workers that are about as fast keep their order, so that rows stay in place."""

    def rank(row: TaskRow) -> tuple[float, int]:
        return (row.progressed if row.stale else math.inf, _pace(row.speed))

    return sorted(rows, key=rank)


def _pace(speed: float | None) -> int:
    """Equal for speeds within a factor of about 1.4."""
    return 0 if not speed or speed < MEASURABLE else 1 + round(2 * math.log2(speed / MEASURABLE))


def sum_rows(rows: Sequence[TaskRow]) -> TaskRow:
    """Several workers as one: sums, the slowest of their progress, and no place."""
    return TaskRow(
        task="",
        clips=sum(row.clips for row in rows),
        speed=sum(row.speed or 0.0 for row in rows),
        progressed=min((row.progressed for row in rows), default=0.0),
        device=sum((row.device for row in rows), DeviceSeconds()),
    )
