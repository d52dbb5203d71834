"""Decide when a worker yields for lack of memory: it flushes and exits before the kernel kills it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from audio_tokenizers.errors import UsageError
from jobs.memory_readings import MemoryReader, Room

__all__ = ["DEFAULT_GUARD", "LESS_MEMORY", "MemoryGuard", "parse_memory_guard", "shortage"]

DEFAULT_GUARD = 0.9
LOOK_SECONDS, SOON_SECONDS = 0.5, 0.1
"""Seconds between checks: normally, and from SOON_FULL on. A check takes a quarter of a millisecond, more on many cores."""
SOON_FULL = 0.6
LESS_MEMORY = "fewer --set lanes, a smaller --buffer-memory, fewer workers or more memory (--mem-per-gpu) help"


def parse_memory_guard(text: str | float) -> float:
    """The value of --memory-guard. Raises UsageError."""
    try:
        guard = float(text)
    except ValueError:
        guard = -1.0
    if not 0 <= guard <= 1:  # also rejects nan
        raise UsageError(f"--memory-guard {text}: expected a share such as 0.9, up to 1; 0 turns it off")
    return guard


def fullness(room: Room, own: int, workers: int) -> float:
    """Pure: the used share, 0 to 1, of the memory that workers can have under a limit: what they hold plus what is free.

    `own`: bytes held by this worker; `workers`: number of workers that share the limit. Memory held by other programs does
    not make workers yield while gigabytes are free. The largest of several workers yields first, because each assumes that
    the others are as large as itself. For a single worker under its own limit, it is the used share of the limit.
    """
    held = min(own * workers, room.total - room.free)
    return held / (held + room.free) if held > 0 else 0.0


def shortage(rooms: Sequence[Room], own: int, workers: int, guard: float) -> str:
    """Pure: why a worker must yield (the use of one of its limits has reached the guard), or ""."""
    for room in rooms:
        if fullness(room, own, workers) >= guard:
            return (
                f"memory is short: {room.where} has {_gigabytes(room.free)} of {_gigabytes(room.total)} GB left, and this "
                f"worker holds {_gigabytes(own)} GB (--memory-guard {guard:g})"
            )
    return ""


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f}"


class MemoryGuard:
    """Checks memory at intervals. Call it often."""

    def __init__(
        self,
        guard: float = DEFAULT_GUARD,
        workers: int = 1,
        reader: MemoryReader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._workers = workers
        self._reader = reader or MemoryReader()
        self._clock = clock
        self._due: float | None = None

    def __call__(self) -> str:
        """Why to yield, or ""."""
        now = self._clock()
        if self._guard == 0 or (self._due is not None and now < self._due):
            return ""
        own = self._reader.own()
        rooms = self._reader.rooms(own * self._workers)
        soon = any(fullness(room, own, self._workers) >= SOON_FULL for room in rooms)
        self._due = now + (SOON_SECONDS if soon else LOOK_SECONDS)
        return shortage(rooms, own, self._workers, self._guard)
