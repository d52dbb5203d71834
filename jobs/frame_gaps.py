"""Judge the bytes between the frames of an MP3 or of raw AAC, before the first and after the last: tags, or lost audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import numpy as np

from jobs.adts_frames import AdtsScan
from jobs.audio_tags import LONGEST_TITLE, junk_size, only_tags, radio_titles, tag_is_cut
from jobs.frame_scan import Gap
from jobs.mp3_frames import Mp3Scan, stated_length

__all__ = ["audio_gaps", "left_before", "tags_inside", "without"]

HEAD = 64
"""Bytes of a frame within which it may state a length."""
READ_BYTES = 1 << 20
MOST_TAG_BYTES = 16 << 20
"""Limit of a tag between frames."""
MOST_OF_A_FRAME = 0.95
"""A shorter remainder before the first frame is the rest of a frame, not a loss: stream recordings begin anywhere."""


def audio_gaps(file: IO[bytes], found: Mp3Scan | AdtsScan) -> list[Gap]:
    """Gaps in which audio may have been."""
    gaps = []
    for gap in found.gaps:
        if found.frames and gap.end <= found.begin:
            gaps += _lost_in_front(file, found, gap)
            continue
        outside = gap.begin >= found.end or not found.frames
        if isinstance(found, AdtsScan) and gap.begin in found.ragged:
            outside = False  # zeros at the end of the last frame are a hole
        file.seek(gap.begin)
        if gap.end - gap.begin > MOST_TAG_BYTES or not only_tags(file.read(gap.end - gap.begin), at_end=outside):
            gaps.append(gap)
    return gaps


def _lost_in_front(file: IO[bytes], found: Mp3Scan | AdtsScan, gap: Gap) -> list[Gap]:
    """The part of the gap before the first frame that may have held frames: none if the first frame states their number."""
    file.seek(gap.begin)
    data = file.read(min(gap.end - gap.begin, MOST_TAG_BYTES))
    if isinstance(found, Mp3Scan) and found.stated_frames is not None:
        return [] if only_tags(data, at_end=True) else [Gap(gap.begin, gap.end, 0.0)]
    begin = gap.begin + junk_size(data)
    file.seek(0)
    if begin >= gap.end or tag_is_cut(file.read(min(begin, MOST_TAG_BYTES))):
        return []
    between = sum(one.end - one.begin for one in found.gaps if found.begin < one.begin < found.end)
    seconds = (gap.end - begin) * found.seconds / max(found.end - found.begin - between, 1)
    is_part = seconds * found.rate < MOST_OF_A_FRAME * found.samples_per_frame
    return [] if is_part else [Gap(begin, gap.end, seconds)]


def tags_inside(file: IO[bytes], found: Mp3Scan | AdtsScan, gaps: Sequence[Gap]) -> list[tuple[int, int]]:
    """(begin, end) of foreign bytes between frames or inside one, to be cut out: each would cost FFmpeg a frame.

    A frame behind a tag that only states a length is cut out with it, as in FFmpeg: it holds no audio.
    """
    others = set(gaps)
    inside = [gap for gap in found.gaps if gap not in others and gap.begin < found.end and gap.end > found.begin]
    if not inside and not gaps:
        return []
    cut = []
    for gap in inside:
        after = int(np.searchsorted(found.positions, gap.end))
        file.seek(gap.end)
        states = after + 1 < len(found.positions) and stated_length(file.read(HEAD)) is not None
        cut.append((gap.begin, int(found.positions[after + 1]) if states else gap.end))
    base, kept = 0, b""
    file.seek(0)
    while data := file.read(READ_BYTES):
        text = kept + data
        cut += [(base - len(kept) + begin, base - len(kept) + end) for begin, end in radio_titles(text)]
        base += len(data)
        kept = text[-LONGEST_TITLE - 16 :]
    return sorted(set(cut))


def without(cut: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """(begin, end) of the spans of a file that remain after `cut`, whose spans are sorted and may overlap."""
    kept, at = [], 0
    for begin, end in cut:
        if begin > at:
            kept.append((at, begin))
        at = max(at, end)
    return [*kept, (at, size)] if at < size else kept


def left_before(place: int, cut: Sequence[tuple[int, int]]) -> int:
    """Bytes before `place` that remain after `cut`."""
    before = [(begin, min(end, place)) for begin, end in cut if begin < place]
    return sum(end - begin for begin, end in without(before, place))
