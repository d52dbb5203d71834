"""Pure: positions in a recording -> positions in its decoded audio, in which gaps are missing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["Timeline"]


class Timeline:
    """All numbers are samples at one rate."""

    def __init__(self, gaps: Sequence[tuple[int, int]] = ()) -> None:
        """`gaps` in order: (decoded samples before the gap, samples missing there)."""
        self.gaps = [gap for gap in gaps if gap[1] > 0]
        self._gone = [0, *accumulate(missing for _, missing in self.gaps)]
        self._begins = [at + gone for (at, _), gone in zip(self.gaps, self._gone, strict=False)]
        """Positions of the gaps in the original recording."""

    @property
    def missing(self) -> int:
        """Samples missing in all gaps together."""
        return self._gone[-1]

    def place(self, sample: int) -> int:
        """Position in the decoded audio of a sample of the original recording; of a missing sample, the end of its gap."""
        before = bisect_right(self._begins, sample)
        if not before:
            return sample
        inside = min(sample - self._begins[before - 1], self.gaps[before - 1][1])
        return sample - self._gone[before - 1] - inside
