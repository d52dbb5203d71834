"""Pure: the time of each frame of a damaged MP3, where the number of missing frames in each gap is certain."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from jobs.frame_scan import Gap
from jobs.gap_finder import TimesAt
from jobs.mp3_frames import Mp3Scan

__all__ = ["frame_times", "is_torn"]

PADDING_BYTES = 1
"""Bytes by which frames of one bit rate differ."""
MOST_ROUNDED_BYTES = 2
"""Bytes by which a gap may differ from a number of whole frames."""
Sizes = np.ndarray[Any, np.dtype[np.int64]]


def frame_times(found: Mp3Scan, gaps: Sequence[Gap]) -> TimesAt | None:
    """Times by the place of a frame; None where the number of missing frames is unknown, or a gap precedes all frames.

    At one bit rate, missing frames are counted by the bytes of a gap, which must fit whole frames: then nothing was removed
    or inserted. If frames vary in length, the count stated by the first frame decides, provided there is only one gap. Where
    the first frame states a count, both must agree.
    """
    inside = [gap for gap in gaps if gap.begin < found.end]
    if not inside or found.changes or not found.rate or inside[0].begin < found.begin:
        return None
    missing = _missing_frames(found, inside)
    if missing is None:
        return None
    ends, gone = [gap.end for gap in inside], [0, *accumulate(missing)]
    frame = found.samples_per_frame / found.rate

    def times(place: int) -> tuple[float, float] | None:
        number = int(np.searchsorted(found.positions, place))
        if number >= len(found.positions) or found.positions[number] != place:
            return None
        number += gone[bisect_right(ends, place)]
        return number * frame, (number + 1) * frame

    return times


def is_torn(found: Mp3Scan, gaps: Sequence[Gap]) -> bool:
    """Whether bytes were removed or inserted: a gap is shorter than two frames, and no frame has its length.

    Irrelevant where a stated count gives the number of missing frames, and for longer gaps, where so many frames may be
    missing anyway.
    """
    if found.stated_frames is not None or found.changes:
        return False
    sizes = np.unique(_whole_sizes(found))
    inside = [gap.end - gap.begin for gap in gaps if found.begin < gap.end and gap.begin < found.end]
    short = [size for size in inside if MOST_ROUNDED_BYTES < size < 2 * found.shortest - PADDING_BYTES]
    return any(int(np.abs(sizes - size).min(initial=size)) > PADDING_BYTES for size in short)


def _whole_sizes(found: Mp3Scan) -> Sizes:
    """Sizes in bytes of the frames that another one follows directly."""
    sizes = np.diff(found.positions)
    broken = np.searchsorted(found.positions, [gap.begin for gap in found.gaps]) - 1
    states = found.stated_frames is not None
    keep = np.ones(len(sizes), np.bool_)
    keep[broken[(broken >= 0) & (broken < len(sizes))]] = False
    keep[: int(states)] = False  # the frame that states the count may have any length
    return sizes[keep]


def _missing_frames(found: Mp3Scan, gaps: Sequence[Gap]) -> list[int] | None:
    """Number of frames missing in each gap; None if it is not certain."""
    sizes = _whole_sizes(found)
    if not len(sizes):
        return None
    counted = found.stated_frames - found.frames if found.stated_frames is not None else None
    if int(sizes.max() - sizes.min()) <= PADDING_BYTES:
        mean = float(sizes.mean())
        missing = [round((gap.end - gap.begin) / mean) for gap in gaps]
        whole = all(
            abs(gap.end - gap.begin - count * mean) <= MOST_ROUNDED_BYTES for gap, count in zip(gaps, missing, strict=True)
        )
        return missing if whole and counted in (None, sum(missing)) else None
    if counted is None or len(gaps) > 1:
        return None
    size = gaps[0].end - gaps[0].begin
    return [counted] if size / int(sizes.max()) - 1 <= counted <= size / int(sizes.min()) + 1 else None
