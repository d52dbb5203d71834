"""Pure: where something is missing between what was decoded, by the times that its file gives to it."""

from __future__ import annotations

from collections.abc import Callable

from jobs.losses import UNNOTICED_SECONDS

__all__ = ["JUMP_SECONDS", "GapFinder", "TimesAt"]

JUMP_SECONDS = 0.01
"""Between the end of a frame and the time of the next: less is rounding."""

TimesAt = Callable[[int], tuple[float | None, float] | None]
"""Place in the file -> when what stands there begins (None: unknown) and ends, in seconds from any beginning, if it says."""


class GapFinder:
    """Is told what is decoded, in its order, with its place in the file or its time."""

    def __init__(self, times_at: TimesAt | None = None) -> None:
        self._times_at = times_at
        self._gaps: list[tuple[float, float]] = []
        self._heard = self._gone = 0.0
        """Seconds that were decoded, and that are missing before what comes now."""
        self._first: float | None = None
        self._offset = 0.0
        """By how much times are ahead of what was decoded: of the first that has one, and of the last."""
        self._off = 0.0
        """By how much it was ever more or less than the gaps tell."""
        self._place: int | None = None
        self._begin = 0.0
        """Where in what was decoded that of `_place` begins."""

    def hear(self, place: int | None, seconds: float) -> None:
        """What stands at `place`; it may come in pieces."""
        if place != self._place:
            self._close()
            self._place, self._begin = place, self._heard
        self._heard += seconds

    def hear_at(self, time: float, seconds: float) -> None:
        """What begins at `time`."""
        self._compare(time - self._heard, self._heard)
        self._heard += seconds

    def doubt(self) -> None:
        """The times say nothing."""
        self._off = float("inf")

    def gaps(self) -> list[tuple[float, float]]:
        """When all is decoded: (seconds decoded before it, seconds missing there) of each gap in its order. None where times
        and gaps together differ by more than UNNOTICED_SECONDS from what was decoded.
        """
        self._close()
        return self._gaps if self._off <= UNNOTICED_SECONDS else []

    def _close(self) -> None:
        """All of `_place` has come. Of the first the beginning may have been left out on purpose, of the last the end."""
        place, self._place = self._place, None
        times = self._times_at(place) if self._times_at is not None and place is not None else None
        if times is None or self._heard <= self._begin:
            return
        begin, end = times
        if begin is None or self._first is None:
            self._compare(end - self._heard, self._begin)
        else:
            self._compare(begin - self._begin, self._begin)

    def _compare(self, offset: float, at: float) -> None:
        if self._first is None:
            self._first = self._offset = offset
        jump, self._offset = offset - self._offset, offset
        if jump > JUMP_SECONDS:
            self._gaps.append((at, jump))
            self._gone += jump
        self._off = max(self._off, abs(offset - self._first - self._gone))
