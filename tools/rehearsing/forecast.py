"""Pure: what the whole list takes, from what a few excerpts took, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.rehearsing.results import Figures

__all__ = ["CONFIDENCE", "Forecast", "Range", "forecast", "why_unsure"]

DRAWS = 2000
CONFIDENCE = 0.9
"""Share of the draws within an interval."""
LEAST_PARTS, LEAST_TARS, LEAST_SECONDS = 8, 2, 10.0
"""A sample below these says little: of the spread over excerpts and tars, and beyond the clock's and the machine's noise."""
WIDE = 0.25
"""Half of an interval's width, as a share of its middle, from which on the forecast is rough."""


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate and its interval."""

    value: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Range:
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, more: float) -> Range:
        return Range(self.value + more, self.low + more, self.high + more)

    @property
    def spread(self) -> float:
        """Half of the interval's width, as a share of the estimate."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Per stored byte of a tar."""

    seconds: Range
    """Of one worker."""
    output_bytes: Range
    audio_seconds: Range


def forecast(figures: Sequence[Figures], seed: int = 0) -> Forecast:
    """Ratios of sums over the excerpts, with intervals by a bootstrap in two stages: tars are drawn with replacement, then
    excerpts within each (Davison, Hinkley, Bootstrap Methods and their Application, 1997, section 3.8), DRAWS times; the
    interval holds the middle CONFIDENCE of the draws. Raises ValueError without excerpts that have bytes.
    """
    tars: dict[str, list[tuple[float, float, float, float]]] = {}
    for one in figures:
        tars.setdefault(one.source, []).append((one.bytes, one.seconds, one.output_bytes, one.audio_seconds))
    groups = [np.array(rows, np.float64) for rows in tars.values()]
    total = sum((group.sum(axis=0) for group in groups), np.zeros(4))
    if total[0] <= 0:
        raise ValueError("expected excerpts with bytes")
    rng = np.random.default_rng(seed)
    draws = np.zeros((DRAWS, 4))
    for chosen in rng.integers(len(groups), size=(len(groups), DRAWS)):
        for number, group in enumerate(groups):
            here = np.flatnonzero(chosen == number)
            draws[here] += group[rng.integers(len(group), size=(len(here), len(group)))].sum(axis=1)
    ratios = draws[:, 1:] / draws[:, :1]
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    seconds, output_bytes, audio_seconds = (
        Range(float(total[1 + i] / total[0]), float(low[i]), float(high[i])) for i in range(3)
    )
    return Forecast(seconds, output_bytes, audio_seconds)


def why_unsure(figures: Sequence[Figures], found: Forecast) -> list[str]:
    """Reasons why the interval is too narrow, or the estimate rough; empty if there are none."""
    tars = len({one.source for one in figures})
    seconds = sum(one.seconds for one in figures)
    reasons = []
    if tars < LEAST_TARS:
        reasons.append("the sample is of one tar, and tars differ")
    if len(figures) < LEAST_PARTS:
        reasons.append(f"{len(figures)} excerpts are few: expected {LEAST_PARTS}")
    if seconds < LEAST_SECONDS:
        reasons.append(f"the sample took {seconds:.1f} s: expected {LEAST_SECONDS:.0f} s")
    if found.seconds.spread > WIDE:
        reasons.append(f"seconds per byte vary by {100 * found.seconds.spread:.0f} % over the excerpts")
    return reasons
