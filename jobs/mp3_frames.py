"""Scan the frame headers of an MPEG audio stream (layers I to III): count and positions of frames, and gaps between them.

Sources: ISO 11172-3 and 13818-3, with MPEG 2.5; the Xing, Info and VBRI frames as LAME and Fraunhofer write them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from jobs.frame_scan import FrameScan, Gap, Positions

__all__ = ["Mp3Scan", "looks_like_mp3", "scan_mp3", "stated_length", "stated_parts"]

READ_BYTES = 1 << 20
LONGEST_FRAME = 4096
KBPS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(MPEG version, layer) -> kbit/s by index; 0 is `free format`, whose frame sizes do not follow from the headers alone."""
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Version bits -> Hz by index."""
DECODER_DELAY = 529
FRAMES_NEAR = 2
"""Frames before a damaged one that may be lost with it, or come late."""
LONGEST_HEADER = 64
"""Most bytes of a frame before one of LENGTH_NAMES."""
LENGTH_NAMES = re.compile(rb"Xing|Info|VBRI")
BIT_RATE = 0x00F0
SAME_STREAM = 0x1E0C
"""Mask of a header's second and third byte: what the frames of one stream have in common (version, layer, rate)."""
SAME_RATE = 0x0C
"""The part of SAME_STREAM in the third byte."""


@dataclass(slots=True)
class Mp3Scan(FrameScan):
    """The headers of an MPEG audio file. A first frame that only states a length counts in `positions`, but not in `frames`;
    `changes` counts changes of version, layer or rate.
    """

    stated_frames: int | None = None
    """Number of frames that the first frame states, if it is a Xing, Info or VBRI frame."""
    padding: int = 0
    """Samples at both ends that decoders drop, as the first frame says."""

    @property
    def whole(self) -> bool:
        """Whether the first frame states as many frames as there are, and no gap lies between them."""
        between = any(self.begin < gap.end and gap.begin < self.end for gap in self.gaps)
        return self.stated_frames is not None and self.stated_frames == self.frames and not between

    @property
    def shortest(self) -> int:
        """Smallest distance in bytes from one frame to the next; at least 1."""
        return max(int(np.diff(self.positions).min(initial=LONGEST_FRAME)), 1)

    def seconds_before(self, place: int) -> float:
        """Seconds of audio that stand before `place` at least, if all are decoded; 0 where rates change."""
        if self.changes or not self.rate:
            return 0.0
        frames = int(np.searchsorted(self.positions, place)) - (self.stated_frames is not None) - FRAMES_NEAR
        return max(frames * self.samples_per_frame - self.padding, 0) / self.rate


@functools.cache
def _tables() -> tuple[list[int], list[int], list[int]]:
    """By the second and third byte of a header: the frame's bytes (0: not a header), samples, and rate in Hz."""
    sizes, samples, rates = ([0] * (1 << 16) for _ in range(3))
    for head in range(0xE000, 1 << 16):
        version, layer = head >> 11 & 3, 4 - (head >> 9 & 3)
        index, rate_index, padding = head >> 4 & 15, head >> 2 & 3, head >> 1 & 1
        if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
            continue
        first = version == 3
        rate = RATES[version][rate_index]
        count = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
        bits = KBPS[1 if first else 2, layer][index] * 1000
        sizes[head] = (12 * bits // rate + padding) * 4 if layer == 1 else count // 8 * bits // rate + padding
        samples[head], rates[head] = count, rate
    return sizes, samples, rates


@functools.cache
def _size_array() -> Positions:
    return np.array(_tables()[0], np.int64)


@functools.cache
def _sizes_of_kind(kind: int) -> list[int]:
    """By the third byte of a header of this `kind`: the frame's bytes; 0 for no header, or one of another rate."""
    sizes = _tables()[0]
    return [sizes[kind & 0xFF00 | third] if (third ^ kind) & SAME_RATE == 0 else 0 for third in range(256)]


def _head_at(data: bytes, at: int) -> int:
    """A header's second and third byte."""
    return data[at + 1] << 8 | data[at + 2]


def looks_like_mp3(head: bytes) -> bool:
    """Whether an MPEG audio frame may begin here."""
    return len(head) >= 4 and head[0] == 0xFF and _tables()[0][head[1] << 8 | head[2]] > 0


def scan_mp3(file: IO[bytes], begin: int, end: int) -> Mp3Scan:
    """Follow the frames from `begin` to `end`. Where the chain breaks, or does not begin yet, resume at the next two frames
    of one kind.
    """
    found = Mp3Scan(begin, begin)
    walk = _Walk(found, begin)
    while walk.at < end:
        file.seek(walk.at)
        base = walk.at
        data = file.read(min(READ_BYTES + 2 * LONGEST_FRAME, end - base))
        if not data:
            break
        at_end = base + len(data) >= end
        walk.through(data, base, len(data) if at_end else READ_BYTES, at_end=at_end)
    walk.finish(end)
    if found.frames:
        _read_first(file, found)
    return found


class _Walk:
    """Positions in `_kept` and `_found` are file positions; all others are positions in the current buffer."""

    def __init__(self, found: Mp3Scan, begin: int) -> None:
        self.at = begin
        """Where the next frame is expected."""
        self._found = found
        self._kept: list[Positions] = []
        self._head = 0
        """Second and third byte of the last frame."""
        self._kind = -1
        """The SAME_STREAM bits of `_head`; -1 before the first frame."""
        self._lost_at: int | None = None

    def through(self, data: bytes, base: int, limit: int, *, at_end: bool) -> None:
        """Walk all frames that begin in the first `limit` bytes of `data`; `at_end`: the audio ends with `data`."""
        at = self.at - base
        while at < limit:
            if self._lost_at is None:
                at = self._along(data, base, at, limit)
                if at >= limit:
                    break
                self._lost_at = base + at
            at = self._next(data, at, limit, at_end=at_end)
            if at < limit:
                self._close_gap(base + at)
        self.at = base + at

    def _along(self, data: bytes, base: int, at: int, limit: int) -> int:
        """Follow one frame after another; return where the next one would begin."""
        places: list[int] = []
        runs: list[tuple[int, int]] = []  # frames of one kind in a row: (head of the first, count)
        stop = min(limit, len(data) - 3)
        beyond = 0  # the head of a frame that extends beyond `data`
        while at < stop and data[at] == 0xFF and not beyond:
            first, second = len(places), data[at + 1]
            head = second << 8 | data[at + 2]
            sizes = _sizes_of_kind(head & (0xE000 | SAME_STREAM))
            # Hot loop: every frame of every MP3 passes here. Only the last one may extend beyond `data`.
            while at < stop and data[at] == 0xFF and data[at + 1] == second and (size := sizes[data[at + 2]]):
                places.append(at)
                at += size
            if at > len(data):
                at = places.pop()
                beyond = _head_at(data, at)
            elif len(places) == first:
                break
            if len(places) > first:
                runs.append((head, len(places) - first))
        # The last frame has another length, and no header follows it: if there are frames inside it, its header is damaged.
        last = _head_at(data, places[-1]) if places else 0
        alone = len(places) > 1 and (last ^ _head_at(data, places[-2])) & (SAME_STREAM | BIT_RATE) and beyond in (0, last)
        if alone and at < stop and self._next(data, places[-1] + 1, at, at_end=False) < at:
            at = places.pop()
            head, frames = runs.pop()
            runs += [(head, frames - 1)] * (frames > 1)
        if places:
            self._count(runs, _head_at(data, places[-1]))
            self._kept.append(np.array(places, np.int64) + base)
            self._found.end = base + at
        return at

    def _count(self, runs: Sequence[tuple[int, int]], last: int) -> None:
        """Count `runs` of (head, frames); `last` is the head of the last frame."""
        _, samples, rates = _tables()
        found = self._found
        self._head = last
        for head, frames in runs:
            found.changes += self._kind not in (-1, head & SAME_STREAM)
            self._kind = head & SAME_STREAM
            found.seconds += frames * samples[head] / rates[head]
        if not found.rate:
            found.rate, found.samples_per_frame = rates[runs[0][0]], samples[runs[0][0]]

    def _next(self, data: bytes, at: int, limit: int, *, at_end: bool) -> int:
        """Where frames resume: two of one kind in a row, or one of the stream's kind that ends the file; else `limit`."""
        width = 2 * LONGEST_FRAME  # most gaps are short
        while at < limit:
            window = np.frombuffer(data, np.uint8)[at : at + width + 2 * LONGEST_FRAME]
            found = self._first_good(window, min(width, limit - at), len(data) - at if at_end else -1)
            if found >= 0:
                return at + found
            at, width = at + width, 4 * width
        return limit

    def _first_good(self, raw: np.ndarray[Any, np.dtype[np.uint8]], width: int, end: int) -> int:
        """The first such place within the first `width` bytes; -1 if there is none."""
        places = np.flatnonzero(raw[:-3] == 0xFF)
        heads = raw[places + 1].astype(np.int64) << 8 | raw[places + 2]
        sizes = _size_array()[heads]
        there = sizes > 0
        places, kinds, ends = places[there], heads[there] & SAME_STREAM, (places + sizes)[there]
        if not len(places):
            return -1
        after = np.minimum(np.searchsorted(places, ends), len(places) - 1)
        good = (places[after] == ends) & (kinds[after] == kinds)
        good |= (ends == end) & (kinds == self._kind)
        found = np.flatnonzero(good & (places < width))
        return int(places[found[0]]) if len(found) else -1

    def _close_gap(self, end: int) -> None:
        if self._lost_at is not None and end > self._lost_at:
            sizes, samples, rates = _tables()
            pace = samples[self._head] / rates[self._head] / sizes[self._head] if self._head else 0.0
            self._found.gaps.append(Gap(self._lost_at, end, (end - self._lost_at) * pace))
        self._lost_at = None

    def finish(self, end: int) -> None:
        """Close the last gap, and collect the positions, at the end of the audio."""
        if self._lost_at is None and self._found.end < end:
            self._lost_at = self._found.end
        self._close_gap(end)
        if self._kept:
            self._found.positions = np.concatenate(self._kept)
            self._found.frames = len(self._found.positions)


def stated_length(frame: bytes) -> tuple[int, int | None, int] | None:
    """(frames, bytes or None, samples of padding) that a Xing, Info or VBRI frame states; None for any other frame."""
    if len(frame) < 4:
        return None
    mpeg1, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    at = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big") or None, 0
    if frame[at : at + 4] not in (b"Xing", b"Info"):
        if not frame[1] & 1:
            at += 2
        if frame[at : at + 4] not in (b"Xing", b"Info"):
            return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    at += 8
    frames = size = 0
    if flags & 1:
        frames, at = int.from_bytes(frame[at : at + 4], "big"), at + 4
    if flags & 2:
        size, at = int.from_bytes(frame[at : at + 4], "big"), at + 4
    at += 100 * bool(flags & 4) + 4 * bool(flags & 8)
    encoder, delays = frame[at : at + 4], int.from_bytes(frame[at + 21 : at + 24], "big")
    padding = 0
    if encoder in (b"LAME", b"Lavf", b"Lavc"):
        padding = (delays >> 12) + DECODER_DELAY + max((delays & 0xFFF) - DECODER_DELAY, 0)
    return frames, size or None, padding


def _read_first(file: IO[bytes], found: Mp3Scan) -> None:
    found.begin = int(found.positions[0])
    file.seek(found.begin)
    stated = stated_length(file.read(LONGEST_FRAME))
    if stated is None:
        return
    frames, _, found.padding = stated
    if not frames:
        return
    found.stated_frames = frames
    found.frames -= 1
    found.seconds -= found.samples_per_frame / found.rate


def stated_parts(file: IO[bytes], found: Mp3Scan) -> tuple[float, list[tuple[int, int]]]:
    """(seconds missing, (begin, end) of each incomplete part) of files put end to end, by the length that the first frame of
    each part states.

    A count is ignored where the size stated beside it shows that all bytes are there, or if it is one too many: some
    encoders count the frame that states it.
    """
    parts = list(_stating_frames(file, found))
    missing, incomplete = 0, []
    for index, (number, frames, stated_end) in enumerate(parts):
        after = parts[index + 1][0] if index + 1 < len(parts) else len(found.positions)
        end = int(found.positions[after]) if after < len(found.positions) else found.end
        there = after - number - 1
        if frames > there + 1 and (stated_end is None or stated_end > end):
            missing += frames - there
            incomplete.append((int(found.positions[number]), end))
    return (missing * found.samples_per_frame / found.rate if found.rate else 0.0), incomplete


def _stating_frames(file: IO[bytes], found: Mp3Scan) -> Iterator[tuple[int, int, int | None]]:
    """Of each frame that states a length: its index among the frames, the frames stated, and their end, if stated."""
    base, kept, last = 0, b"", -1
    file.seek(0)
    while data := file.read(READ_BYTES):
        text = kept + data
        for match in LENGTH_NAMES.finditer(text):
            place = base - len(kept) + match.start()
            number = int(np.searchsorted(found.positions, place, "right")) - 1
            if number <= last or place - found.positions[number] > LONGEST_HEADER:
                continue
            begin = int(found.positions[number])
            file.seek(begin)
            stated = stated_length(file.read(LONGEST_FRAME))
            if stated is not None and stated[0]:
                last = number
                yield number, stated[0], begin + stated[1] if stated[1] else None
        base += len(data)
        file.seek(base)
        kept = text[-3:]
