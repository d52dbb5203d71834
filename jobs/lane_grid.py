"""Pure: choose one of a few fixed shapes to encode a waveform in, by its length alone.

Bucket lengths are whole hops and grow by a constant ratio. One bucket equals the fragment length: fragments of long clips
need no padding. Longer buckets have proportionally fewer lanes, which keeps the amount of audio per call nearly constant.
"""

from __future__ import annotations

import bisect
import math

from audio_tokenizers.base import LaneShape

__all__ = ["RULE", "LaneGrid"]

RATIO = 1.15
"""For clip lengths log-normal around 6 s in 16 lanes, 1.15 pads 7 % and leaves 1 % empty. 1.08 pads 4 %, but has nearly
twice as many buckets, more of them partly empty at the end of a run of small tars; 1.25 pads 11 %.
"""
SHORTEST_SECONDS = 0.5
FULL_SECONDS = 10.0
"""Buckets up to this length have all lanes."""
ANCHOR_SECONDS = 30.0
"""Length of one bucket where there are no fragments."""
RULE = f"whole hops, x {RATIO} from {SHORTEST_SECONDS:g} s, all lanes up to {FULL_SECONDS:g} s"
"""Part of the recipe: another rule gives other tokens."""


class LaneGrid:
    """The shapes of calls of one run."""

    def __init__(self, *, lanes: int, sample_rate: int, hop_length: int, fragment_frames: int | None) -> None:
        self._lanes = lanes
        self._hop = hop_length
        self._full = FULL_SECONDS * sample_rate
        anchor = fragment_frames or math.ceil(ANCHOR_SECONDS * sample_rate / hop_length)
        shortest = SHORTEST_SECONDS * sample_rate / hop_length
        frames = [anchor]
        while frames[-1] > shortest and frames[-1] > 1:
            frames.append(min(frames[-1] - 1, math.floor(frames[-1] / RATIO)))
        self._frames = [count for count in reversed(frames) if count > 0]
        """Bucket lengths in hops, ascending; extended as longer waveforms come."""

    def shape(self, samples: int) -> LaneShape:
        """The shape for a waveform of `samples` samples: the smallest bucket that holds it."""
        hops = max(1, math.ceil(samples / self._hop))
        while self._frames[-1] < hops:
            self._frames.append(max(self._frames[-1] + 1, math.ceil(self._frames[-1] * RATIO)))
        length = self._frames[bisect.bisect_left(self._frames, hops)] * self._hop
        return LaneShape(max(1, min(self._lanes, int(self._lanes * self._full / length))), length)
