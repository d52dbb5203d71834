"""Pure: how long a worker's activities have been without progress, and which of them has used up its time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.activities import Activity

__all__ = ["Effort", "Stall", "Watchdog"]

LONGEST_STEP_SECONDS, PAUSE_SECONDS = 5.0, 1.0
"""Seconds between two looks. A longer pause, as of a suspended job or virtual machine, counts as one interval."""
PATIENCE_SECONDS, NOTICE_SECONDS = 30.0, 10.0
"""How long a step may take in all where a worker is to stop, which is as long as Slurm mostly waits (KillWait); and how long
after the request, at least."""
LEAST_COMPUTING = 0.1
"""Share of a core: a process that uses less is only waiting."""
LEAST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Effort:
    """What a process has done so far, by the kernel's counters."""

    cpu_seconds: float = 0.0
    read_bytes: int = 0
    """Bytes by calls and, for mapped files, from storage."""
    faults: int = 0
    """Pages that had to be waited for."""

    def since(self, before: Effort, seconds: float) -> bool:
        """Whether it has read or computed substantially in the `seconds` since `before`."""
        return (
            self.cpu_seconds - before.cpu_seconds >= LEAST_COMPUTING * seconds
            or self.read_bytes - before.read_bytes >= LEAST_BYTES
            or self.faults > before.faults
        )


@dataclass(frozen=True, slots=True)
class Stall:
    """An activity without progress."""

    activity: Activity
    seconds: float

    def __str__(self) -> str:
        """`decoding clip 7 of 000012 has made no progress for 612 s`."""
        return f"{self.activity} has made no progress for {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: int
    progress: float
    """When it last signed, in seconds of observation."""
    life: float
    """The same, or when its process last did work, if that counts."""


class Watchdog:
    """Counts the seconds that a worker was seen without progress. One object per worker."""

    def __init__(self, now: float) -> None:
        """`now`: seconds of a monotonic clock."""
        self._looked = now
        self._seconds = 0.0
        self._effort: Effort | None = None
        self._activities: Sequence[Activity] = ()
        self._known: dict[int, _Known] = {}

    def look(
        self, now: float, activities: Sequence[Activity], effort: Effort | None = None, *, stopped: bool = False
    ) -> None:
        """Observe the activities. `effort` counts as progress of loading, whose steps are invisible. No time passes for a
        worker that is `stopped`, for example by SIGSTOP: its activities are not at fault.
        """
        step = now - self._looked
        step = PAUSE_SECONDS if step > LONGEST_STEP_SECONDS else step
        self._looked = now
        if not stopped:
            self._seconds += step
        works = effort is not None and self._effort is not None and effort.since(self._effort, step)
        self._effort = effort
        self._known = {one.slot: self._follow(one, works=works) for one in activities}
        self._activities = activities

    def _follow(self, activity: Activity, *, works: bool) -> _Known:
        before = self._known.get(activity.slot)
        if before is None or before.stamp != activity.stamp:
            return _Known(activity.stamp, self._seconds, self._seconds)
        return _Known(before.stamp, before.progress, self._seconds if works and activity.what == "load" else before.life)

    def longest(self) -> Stall | None:
        """The activity that has been without progress longest; None if there is none."""
        stalls = [Stall(one, self._seconds - self._known[one.slot].progress) for one in self._activities]
        return max(stalls, key=lambda stall: stall.seconds, default=None)

    def hopeless(self, asked_seconds: float) -> Stall | None:
        """What a worker that was asked to stop so long ago need not be waited for: its partials are good as they are."""
        longest = self.longest()
        patient = longest is None or longest.seconds < PATIENCE_SECONDS or asked_seconds < NOTICE_SECONDS
        return None if patient else longest

    def without_end(self, seconds: float) -> Stall | None:
        """The step at a clip that has made no progress for so long, where such are ended; None as long as all is well."""
        stalls = [Stall(one, self._seconds - self._known[one.slot].progress) for one in self._activities]
        late = [each for each in stalls if each.seconds >= seconds]
        endless = [each for each in late if each.activity.clip is not None and each.activity.allowed < math.inf]
        return max(endless, key=lambda stall: stall.seconds, default=None)

    def overdue(self) -> Stall | None:
        """What has taken more than it may, by the largest part; None as long as all is well."""
        stalls = [Stall(one, self._seconds - self._known[one.slot].life) for one in self._activities]
        late = [stall for stall in stalls if stall.seconds >= stall.activity.allowed]
        return max(late, key=lambda stall: stall.seconds / stall.activity.allowed, default=None)
