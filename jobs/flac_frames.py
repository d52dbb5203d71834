"""FLAC frame headers (RFC 9639): the samples in a frame, the end of the last one, and the beginnings of further files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np

__all__ = ["StreamInfo", "ends_as_stated", "flac_files", "frame_range", "frames_in_order", "read_stream_info"]

STREAM_INFO = 42
"""Bytes from the beginning of a file to the end of STREAMINFO."""
TAIL = 1 << 16
MOST_FILES = 10_000
"""Limit of files put end to end: more are not recordings, and would be slow."""
READ_BYTES = 1 << 20
BEGINNING = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
FIRST_BYTES = int.from_bytes(b"fL", "little")
SYNC = re.compile(rb"\xff[\xf8\xf9][^\x00-\x0f]")
LONGEST_HEADER = 16


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A FLAC file's STREAMINFO."""

    block: int
    """Samples per frame, except for the last."""
    rate: int
    samples: int
    """Total; 0 if unknown."""


def read_stream_info(head: bytes) -> StreamInfo | None:
    """STREAMINFO of a file that begins with `head`; None if it is not FLAC."""
    if len(head) < STREAM_INFO or head[:4] != b"fLaC" or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        return None
    packed = int.from_bytes(head[18:26], "big")
    return StreamInfo(int.from_bytes(head[8:10], "big"), packed >> 44, packed & (1 << 36) - 1)


def frame_range(data: bytes, info: StreamInfo) -> tuple[int, int] | None:
    """(first sample, samples) of the frame whose header starts `data`; None if no header does."""
    if len(data) < 6 or not SYNC.match(data) or data[2] & 0x0F == 0x0F or data[3] & 1 or data[3] >> 4 > 10:
        return None
    number, at = _coded_number(data, 4)
    if number is None:
        return None
    code = data[2] >> 4
    if code == 1:
        size = 192
    elif code <= 5:
        size = 576 << (code - 2)
    elif code >= 8:
        size = 256 << (code - 8)
    else:
        length = code - 5
        size, at = int.from_bytes(data[at : at + length], "big") + 1, at + length
    at += {12: 1, 13: 2, 14: 2}.get(data[2] & 0x0F, 0)
    if at >= len(data) or _crc8(data[:at]) != data[at]:
        return None
    return number if data[1] & 1 else number * info.block, size


def _coded_number(data: bytes, at: int) -> tuple[int | None, int]:
    """A number of up to 36 bits, coded as in UTF-8, and its end; None if it is invalid."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    more = 0
    while more < 7 and first & 0x40 >> more:
        more += 1
    rest = data[at + 1 : at + 1 + more]
    if first < 0xC0 or more == 7 or len(rest) < more or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, at
    number = first & 0x3F >> more
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, at + 1 + more


def _crc8_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


CRC8 = [_crc8_of_byte(byte) for byte in range(256)]


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = CRC8[crc ^ byte]
    return crc


def ends_as_stated(file: IO[bytes], begin: int, end: int, info: StreamInfo) -> bool:
    """Whether the last frame within TAIL bytes of the end ends with the last sample that the file states."""
    start = max(begin, end - TAIL)
    file.seek(start)
    tail = file.read(end - start)
    at = len(tail)
    while True:
        fixed = tail.rfind(b"\xff\xf8", 0, at)
        at = max(tail.rfind(b"\xff\xf9", fixed + 1, at), fixed)  # only behind the other: else each step scans the whole tail
        if at < 0:
            return False
        found = frame_range(tail[at : at + LONGEST_HEADER], info)
        if found is not None:
            return sum(found) == info.samples


def frames_in_order(file: IO[bytes], begin: int, end: int, info: StreamInfo) -> bool:
    """Whether the frames follow one another without a gap, from the first sample to the last one stated."""
    expected, base, kept = 0, begin, b""
    while base < end and expected < info.samples:
        file.seek(base)
        data = file.read(min(READ_BYTES, end - base))
        if not data:
            break
        base += len(data)
        text = kept + data
        kept = text[-LONGEST_HEADER + 1 :] if base < end else b""
        for match in SYNC.finditer(text, 0, len(text) - len(kept)):
            found = frame_range(text[match.start() : match.start() + LONGEST_HEADER], info)
            if found is not None and found[0] == expected:
                expected += found[1]
    return expected == info.samples


def flac_files(file: IO[bytes], begin: int) -> list[tuple[int, int]]:
    """(begin, end) of each FLAC file in `file` from `begin` on: one, or several put end to end."""
    end = file.seek(0, io.SEEK_END)
    starts, base, kept = [begin], begin, b""
    file.seek(begin)
    while data := file.read(READ_BYTES):
        text = kept + data
        for at in _may_begin(text):
            if BEGINNING.match(text, at) and base - len(kept) + at > begin and len(starts) < MOST_FILES:
                starts.append(base - len(kept) + at)
        base += len(data)
        kept = text[-7:]
    return list(pairwise([*starts, end]))


def _may_begin(text: bytes) -> list[int]:
    """Places of the first two bytes of `fLaC`. Every byte of every FLAC passes here, and `find` takes far longer."""
    places: list[int] = []
    for odd in (0, 1):
        pairs = np.frombuffer(text, "<u2", (len(text) - odd) // 2, odd)
        places += (2 * np.flatnonzero(pairs == FIRST_BYTES) + odd).tolist()
    return sorted(places)
