"""Pure: find gaps in decoded audio by the times that the file states."""

from __future__ import annotations

from collections.abc import Callable

from jobs.losses import UNNOTICED_SECONDS

__all__ = ["JUMP_SECONDS", "GapFinder", "TimesAt"]

JUMP_SECONDS = 0.01
"""Smallest jump between the end of a frame and the time of the next: less is rounding."""

TimesAt = Callable[[int], tuple[float | None, float] | None]
"""Place in the file -> (begin, end) of the audio there, in seconds from an arbitrary origin; begin None: unknown. None: the
file states no time for this place.
"""


class GapFinder:
    """Takes decoded audio in its order, with its place in the file or its time."""

    def __init__(self, times_at: TimesAt | None = None) -> None:
        self._times_at = times_at
        self._gaps: list[tuple[float, float]] = []
        self._heard = self._gone = 0.0
        """Seconds decoded so far; seconds missing so far."""
        self._first: float | None = None
        self._offset = 0.0
        """Seconds by which the latest stated time is ahead of the decoded audio; `_first`: the same for the first time."""
        self._off = 0.0
        """Largest difference so far between the lead gained since the first time and the gaps found."""
        self._place: int | None = None
        self._begin = 0.0
        """Decoded seconds before the audio of `_place`."""

    def hear(self, place: int | None, seconds: float) -> None:
        """Take decoded `seconds` from `place`, whose audio may come in pieces."""
        if place != self._place:
            self._close()
            self._place, self._begin = place, self._heard
        self._heard += seconds

    def hear_at(self, time: float, seconds: float) -> None:
        """Take decoded `seconds` that begin at `time`."""
        self._compare(time - self._heard, self._heard)
        self._heard += seconds

    def doubt(self) -> None:
        """Note that the times are unusable: `gaps` will return none."""
        self._off = float("inf")

    def gaps(self) -> list[tuple[float, float]]:
        """After decoding: (seconds decoded before the gap, seconds missing there) of each gap, in order. Empty if times and
        gaps together differ from the decoded audio by more than UNNOTICED_SECONDS.
        """
        self._close()
        return self._gaps if self._off <= UNNOTICED_SECONDS else []

    def _close(self) -> None:
        """Compare the audio of `_place`, now complete, with its times. Decoders may trim the beginning of the first place
        and the end of the last on purpose.
        """
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
