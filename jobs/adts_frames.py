"""Scan the ADTS headers of a raw AAC stream: count and positions of frames, and gaps between them.

Sources: ISO/IEC 13818-7 and 14496-3, subpart 4. The rate in a header is the core's: HE-AAC has twice as many samples per
second, in frames of the same duration.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np

from jobs.frame_scan import FrameScan, Gap, Positions

__all__ = ["LONGEST_FRAME", "AdtsScan", "looks_like_adts", "scan_adts"]

READ_BYTES = 1 << 20
HEADER, CHECKSUM = 7, 2
LONGEST_FRAME = (1 << 13) - 1
RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Hz by index."""
BLOCK_SAMPLES = 1024
"""Samples of the core in a raw data block."""
FRAMES_NEAR = 2
"""Frames before a damaged one that may be lost with it."""
SYNC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
SAME_STREAM = (0xFFF << 16 | 0b111 << 12 | 0b11 << 10 | 0b1111 << 6 | 0b111 << 2) << 28
"""Mask of a header's 56 bits that the frames of one stream share: sync, layer, checksum or none, profile, rate, channels."""
BLOCKS = 0b11


@dataclass(slots=True)
class AdtsScan(FrameScan):
    """The headers of a raw AAC file. `changes` counts changes of anything in SAME_STREAM, or of the blocks per frame. The
    seconds of a gap assume frames of mean size; a gap that begins with a header counts for at least one frame.
    """

    torn: set[int] = field(default_factory=set)
    """Begins of the gaps that are frames shorter than their headers say, because other frames begin inside them."""
    stated: set[int] = field(default_factory=set)
    """Begins of the gaps that are as long as the damaged header there says: one frame each."""
    ragged: set[int] = field(default_factory=set)
    """Begins of the gaps before which the bytes do not end as a frame does."""

    @property
    def frame_seconds(self) -> float:
        """Duration of the first frame."""
        return self.samples_per_frame / self.rate if self.rate else 0.0

    def seconds_before(self, place: int) -> float:
        """Seconds of audio that stand before `place` at least, if all are decoded; 0 where the form of frames changes."""
        if self.changes or not self.rate:
            return 0.0
        return max(int(np.searchsorted(self.positions, place)) - FRAMES_NEAR, 0) * self.frame_seconds


@functools.lru_cache(maxsize=64)
def _is_kind(kind: int) -> bool:
    """Whether these SAME_STREAM bits are valid in a frame header."""
    fixed = kind >> 28
    return fixed >> 16 == 0xFFF and not fixed & 0b11 << 13 and fixed >> 6 & 0b1111 < len(RATES)


def _header(data: bytes, at: int) -> int:
    """The header at `at` in `data`, as a number of 56 bits; 0 if there is none."""
    head = int.from_bytes(data[at : at + HEADER], "big")
    return head if len(data) - at >= HEADER and _is_kind(head & SAME_STREAM) and _size(head) > _least(head) else 0


def _size(head: int) -> int:
    return head >> 13 & LONGEST_FRAME


def _least(head: int) -> int:
    """Bytes of an empty frame."""
    return HEADER if head >> 40 & 1 else HEADER + CHECKSUM


def _samples(head: int) -> int:
    return ((head & BLOCKS) + 1) * BLOCK_SAMPLES


def _rate(head: int) -> int:
    return RATES[head >> 34 & 0b1111]


def _seconds(head: int) -> float:
    return _samples(head) / _rate(head)


def looks_like_adts(head: bytes) -> bool:
    """Whether a frame of AAC with an ADTS header may begin here."""
    return _header(head, 0) > 0


def scan_adts(file: IO[bytes], begin: int, end: int) -> AdtsScan:
    """Follow the frames from `begin` to `end`. Where the chain breaks, or does not begin yet, resume at the next two frames
    of one kind.
    """
    walk = _Walk(begin)
    while walk.at < end:
        base = walk.at
        file.seek(base)
        data = file.read(min(READ_BYTES + 2 * (LONGEST_FRAME + HEADER), end - base))
        if not data:
            break
        at_end = base + len(data) >= end
        walk.through(data, base, len(data) if at_end else READ_BYTES, at_end=at_end)
    found = walk.found(begin, end)
    for number, gap in enumerate(found.gaps):
        file.seek(max(gap.begin - 2, begin))
        if not _ends_a_frame(file.read(min(gap.begin - begin, 2))):
            found.ragged.add(gap.begin)
        if gap.begin > found.begin and _size(int.from_bytes(file.read(HEADER), "big")) == gap.end - gap.begin:
            found.stated.add(gap.begin)
            found.gaps[number] = replace(gap, seconds=found.frame_seconds)
    return found


def _ends_a_frame(tail: bytes) -> bool:
    """Whether `tail` ends as a frame does: with the element END (three ones) and zeros up to a whole byte. One in four of
    random bytes does too.
    """
    number = int.from_bytes(tail, "big")
    zeros = (number & -number).bit_length() - 1 if number else 0
    return number >> zeros & 0b111 == 0b111 and zeros < 8


class _Walk:
    """Positions in `_kept`, `_gaps` and `_end` are file positions; all others are positions in the current buffer."""

    def __init__(self, begin: int) -> None:
        self.at = begin
        """Where the next frame is expected."""
        self._end = begin
        self._kept: list[Positions] = []
        self._first = 0
        """The first frame's header, reduced to SAME_STREAM and BLOCKS."""
        self._last = 0
        """The last frame's, likewise."""
        self._seconds = 0.0
        self._bytes = 0
        """Of all frames."""
        self._changes = 0
        self._lost_at: int | None = None
        self._headed = False
        """There is a sync word where the chain broke."""
        self._gaps: list[tuple[int, int, bool]] = []
        self._torn: set[int] = set()

    def through(self, data: bytes, base: int, limit: int, *, at_end: bool) -> None:
        """Walk all frames that begin in the first `limit` bytes of `data`; `at_end`: the audio ends with `data`."""
        at = self.at - base
        while at < limit:
            start = at
            if self._lost_at is None:
                at = self._along(data, base, at, limit, at_end=at_end)
                if at >= limit:
                    break
                self._lost_at, self._headed, start = base + at, SYNC.match(data, at) is not None, at + 1
            at = self._next(data, start, limit, at_end=at_end)
            if at < limit:
                self._close_gap(base + at)
        self.at = base + at

    def _along(self, data: bytes, base: int, at: int, limit: int, *, at_end: bool) -> int:
        """Follow one frame after another; return where the next one would begin."""
        last = -1
        while head := self._goes_on(data, at, at_end=at_end):
            if at >= limit:
                return at
            at, last = self._run(data, base, at, limit, head)
        if last >= 0 and self._next(data, last + 1, at, at_end=False) < at:
            self._drop(base + last, _header(data, last))
            return last
        return at

    def _goes_on(self, data: bytes, at: int, *, at_end: bool) -> int:
        """The header of the whole frame at `at`; 0 if there is none. If its kind differs from the last frame's, another
        frame of its kind must follow; the first frame of all may also end the file.
        """
        head = _header(data, at)
        after = at + _size(head)
        if not head or after > len(data):
            return 0
        kind = head & SAME_STREAM
        follows = _header(data, after) & SAME_STREAM == kind or (at_end and after == len(data) and not self._last)
        return head if kind == self._last & SAME_STREAM or follows else 0

    def _run(self, data: bytes, base: int, at: int, limit: int, head: int) -> tuple[int, int]:
        """Pass all frames with headers like `head`, the first one's; return where the next and the last one begin."""
        mask = SAME_STREAM | BLOCKS
        wanted, least, size = head & mask, _least(head), len(data)
        begin, stop = at, min(limit, size - HEADER + 1)
        places: list[int] = []
        while at < stop:
            head = int.from_bytes(data[at : at + HEADER], "big")
            length = head >> 13 & LONGEST_FRAME
            if head & mask != wanted or length <= least or at + length > size:
                break
            places.append(at)
            at += length
        self._changes += self._last not in (0, wanted)
        self._first, self._last = self._first or wanted, wanted
        self._kept.append(np.array(places, np.int64) + base)
        self._seconds += len(places) * _seconds(wanted)
        self._bytes += at - begin
        self._end = base + at
        return at, places[-1]

    def _drop(self, place: int, head: int) -> None:
        """Drop the last frame: it is shorter than its header says, because other frames begin inside it."""
        self._kept[-1] = self._kept[-1][:-1]
        self._seconds -= _seconds(head)
        self._bytes -= _size(head)
        self._end = place
        self._torn.add(place)

    def _next(self, data: bytes, at: int, limit: int, *, at_end: bool) -> int:
        """Where frames resume: two of one kind in a row, or one of the stream's kind that ends the file; else `limit`."""
        for match in SYNC.finditer(data, at):
            place = match.start()
            if place >= limit:
                break
            head = _header(data, place)
            kind, after = head & SAME_STREAM, place + _size(head)
            ends = at_end and after == len(data) and kind == self._last & SAME_STREAM
            if head and (_header(data, after) & SAME_STREAM == kind or ends):
                return place
        return limit

    def _close_gap(self, end: int) -> None:
        if self._lost_at is not None and end > self._lost_at:
            self._gaps.append((self._lost_at, end, self._headed))
        self._lost_at = None

    def found(self, begin: int, end: int) -> AdtsScan:
        """The finished scan, at the end of the audio."""
        if self._lost_at is None and self._end < end:
            self._lost_at, self._headed = self._end, False
        self._close_gap(end)
        positions = np.concatenate(self._kept) if self._kept else np.empty(0, np.int64)
        scan = AdtsScan(begin, self._end, len(positions), self._seconds, self._changes, torn=self._torn, positions=positions)
        if self._first:
            scan.rate, scan.samples_per_frame = _rate(self._first), _samples(self._first)
        if len(positions):
            scan.begin = int(positions[0])
        pace = self._seconds / self._bytes if self._bytes else 0.0
        for at, to, headed in self._gaps:
            least = scan.frame_seconds if headed else 0.0
            scan.gaps.append(Gap(at, to, max((to - at) * pace, least)))
        return scan
