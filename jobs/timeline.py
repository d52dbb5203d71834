"""Pure: times of a recording -> samples of what was decoded of it, where something is missing in between."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["Timeline"]


class Timeline:
    """All numbers are samples at one rate."""

    def __init__(self, gaps: Sequence[tuple[int, int]] = ()) -> None:
        """`gaps` in their order: how much of what was decoded stands before each, and how much is missing there."""
        self.gaps = [gap for gap in gaps if gap[1] > 0]
        self._gone = [0, *accumulate(missing for _, missing in self.gaps)]
        self._begins = [at + gone for (at, _), gone in zip(self.gaps, self._gone, strict=False)]
        """Of the gaps, in the recording as it was."""

    @property
    def missing(self) -> int:
        """In all gaps together."""
        return self._gone[-1]

    def place(self, sample: int) -> int:
        """Where a sample of the recording as it was stands in what was decoded; of one that is missing, what follows it."""
        before = bisect_right(self._begins, sample)
        if not before:
            return sample
        inside = min(sample - self._begins[before - 1], self.gaps[before - 1][1])
        return sample - self._gone[before - 1] - inside
