"""Pure: how many frames are missing in the gaps of a raw AAC stream.

No header counts frames, and frames vary in length. One frame is certainly missing where the length in its damaged header
equals the gap. In other gaps, the bytes bound the number of missing frames if they were overwritten. If bytes were removed,
the rest says nothing; but it is mostly shorter than any frame.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.adts_frames import AdtsScan
from jobs.frame_scan import Gap
from jobs.gap_finder import TimesAt

__all__ = ["Missing", "missing_frames"]

NEAR = 100
"""Frames on each side of a gap to compare it with: two to six seconds."""
FIRST_FRAMES = 2
"""Frames at the beginning of a stream, which encoders make small."""
SMALLER, LARGER = 0.9, 1.1
"""Size of a missing frame, relative to the smallest and the largest frame near it."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What is known of the gaps of a file."""

    times_at: TimesAt | None
    """Times by the place of a frame in the file without the gaps; None if the number of missing frames is not certain."""
    most_seconds: float
    """Upper bound of the seconds missing in the gaps, provided no bytes were removed."""
    torn: bool
    """Bytes were removed or inserted: the missing duration is unknown."""


def missing_frames(found: AdtsScan, gaps: Sequence[Gap]) -> Missing:
    """Judge `gaps`, those gaps of `found` that may have held audio."""
    inside = [gap for gap in gaps if gap.begin < found.end]
    sizes = np.diff(found.positions)
    broken = np.searchsorted(found.positions, [gap.begin for gap in found.gaps]) - 1
    usual = np.ones(len(sizes), np.bool_)
    usual[broken[(broken >= 0) & (broken < len(sizes))]] = False
    usual[:FIRST_FRAMES] = False
    most, torn = 0, False
    for gap in inside:
        if gap.begin in found.stated:
            most += 1
            continue
        size, at = gap.end - gap.begin, int(np.searchsorted(found.positions, gap.begin))
        near = slice(max(at - NEAR, 0), at + NEAR)
        around = sizes[near][usual[near]]
        fewest, highest = 0, max(round(gap.seconds / found.frame_seconds), 1)
        if len(around):
            fewest, highest = math.ceil(size / (LARGER * around.max())), math.floor(size / (SMALLER * around.min()))
        most += max(highest, 1)
        torn = torn or (gap.end > found.begin and (gap.begin in found.torn or fewest > highest))
    is_sure = not found.changes and all(gap.begin in found.stated for gap in inside)
    return Missing(_times(found, inside) if is_sure else None, most * found.frame_seconds, torn)


def _times(found: AdtsScan, gaps: Sequence[Gap]) -> TimesAt:
    """Times by place in the file without `gaps`, each of which was one frame. Returns None for the successor of the frame
    asked for before: it is where it was expected, and comparing each frame's time costs a sixth of its decoding.
    """
    frame, behind = found.frame_seconds, np.searchsorted(found.positions, [gap.end for gap in gaps]).tolist()
    positions = found.positions.copy()
    for number, gap in zip(behind, gaps, strict=True):
        positions[number:] -= gap.end - gap.begin
    places = memoryview(positions.data)
    stops = [*behind, len(positions)]
    following = stop = 0

    def times(place: int) -> tuple[float, float] | None:
        nonlocal following, stop
        if following < stop and places[following] == place:
            following += 1
            return None
        number = int(np.searchsorted(positions, place))
        if number == len(positions) or places[number] != place:
            following = stop
            return None
        passed = bisect_right(behind, number)
        following, stop = number + 1, stops[passed]
        return (number + passed) * frame, (number + passed + 1) * frame

    return times
