"""Sizes stated in audio headers, compared with the file: detects a file that is cut short.

libsndfile silently shortens a file whose samples end early. That is lost audio and must be reported.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from typing import IO

__all__ = ["missing_bytes", "mp3_in_wav"]

STREAMED_SIZES = (0, 0x7F000000)
"""A file written to a pipe states 0, or 0x7F000000 and more, as its size; its samples run to the end of the file."""
UNKNOWN_AU_SIZE = 0xFFFFFFFF
NIST_HEADER = 1024
A_LITTLE = 128
"""Bytes by which a stated size may exceed the real one without loss: some programs count headers, or round up."""
MPEG_TAGS = (0x50, 0x55)
EXTENSIBLE = 0xFFFE
"""WAV format tags: MPEG layers I and II, layer III; and WAVE_FORMAT_EXTENSIBLE, whose GUID begins with the real tag."""


@dataclass(frozen=True, slots=True)
class _Chunks:
    """A format's chunk layout, and the name of the chunk that holds the samples."""

    header: struct.Struct
    first: int
    samples: bytes
    align: int
    counts_header: bool = False

    def find(self, file: IO[bytes], end: int, wanted: bytes) -> tuple[int, int] | None:
        """(start, stated size) of the first chunk whose name starts with `wanted`."""
        position = self.first
        while position + self.header.size <= end:
            file.seek(position)
            name, size = self.header.unpack(file.read(self.header.size))
            position += self.header.size
            if self.counts_header:
                size -= self.header.size
            if name.startswith(wanted):
                return position, size
            if size < 0:
                return None
            position += size + -size % self.align
        return None


RIFF = _Chunks(struct.Struct("<4sI"), 12, b"data", 2)
LAYOUTS = {
    b"RIFF": RIFF,
    b"RIFX": _Chunks(struct.Struct(">4sI"), 12, b"data", 2),
    b"RF64": RIFF,
    b"FORM": _Chunks(struct.Struct(">4sI"), 12, b"SSND", 2),
    b"caff": _Chunks(struct.Struct(">4sq"), 8, b"data", 1),
    b"riff": _Chunks(struct.Struct("<16sQ"), 40, b"data", 8, counts_header=True),  # Sony Wave64
}
FORMS = {b"RIFF": (b"WAVE",), b"RIFX": (b"WAVE",), b"RF64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC")}


def missing_bytes(file: IO[bytes]) -> tuple[int, int]:
    """(bytes of samples missing, bytes stated); (0, 0) where nothing, or only a trifle, is missing.

    A WAV whose data chunk states 0 bytes, though samples and no further chunks follow, gets the size of a streamed file
    written into its header, in place: libsndfile would read it as empty.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    magic = head[:4]
    promise = None
    if magic in LAYOUTS and head[8:] in FORMS.get(magic, (head[8:],)):
        promise = _chunk_promise(file, end, magic)
    elif magic in (b".snd", b"dns.") and len(head) == 12:
        promise = _au_promise(head)
    elif magic == b"NIST":
        promise = _nist_promise(file)
    file.seek(0)
    if promise is None:
        return 0, 0
    start, size = promise
    there = max(end - start, 0)
    return (size - there, size) if there + (A_LITTLE if there else 0) < size else (0, 0)


def mp3_in_wav(file: IO[bytes]) -> tuple[int, int] | None:
    """(begin, end) of the MPEG audio in a WAV file; None if there is none."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    form, data = RIFF.find(file, end, b"fmt "), RIFF.find(file, end, RIFF.samples)
    if form is None or data is None:
        return None
    file.seek(form[0])
    fields = file.read(min(form[1], 40))
    tag = int.from_bytes(fields[:2], "little")
    if tag == EXTENSIBLE:
        tag = int.from_bytes(fields[24:26], "little")
    if tag not in MPEG_TAGS:
        return None
    size = data[1] if STREAMED_SIZES[0] < data[1] < STREAMED_SIZES[1] else end
    return data[0], min(data[0] + size, end)


def _chunk_promise(file: IO[bytes], end: int, magic: bytes) -> tuple[int, int] | None:
    layout = LAYOUTS[magic]
    found = layout.find(file, end, layout.samples)
    if found is None:
        return None
    start, size = found
    if magic == b"RF64":
        long_sizes = layout.find(file, end, b"ds64")
        if long_sizes is None:
            return None
        file.seek(long_sizes[0] + 8)
        return start, int.from_bytes(file.read(8), "little")
    if magic in (b"caff", b"riff"):
        return (start, size) if size >= 0 else None
    if size == 0 and magic == b"RIFF" and start < end and file.writable() and not _whole_chunks(file, start, end):
        file.seek(start - 4)
        file.write(b"\xff\xff\xff\xff")
        file.flush()
    return (start, size) if STREAMED_SIZES[0] < size < STREAMED_SIZES[1] else None


def _whole_chunks(file: IO[bytes], position: int, end: int) -> bool:
    """Whether chunks with printable names fill the file from here on."""
    while position + RIFF.header.size <= end:
        file.seek(position)
        name, size = RIFF.header.unpack(file.read(RIFF.header.size))
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        position += RIFF.header.size + size + size % 2
    return end <= position <= end + 1


def _au_promise(head: bytes) -> tuple[int, int] | None:
    start, size = struct.unpack_from(">II" if head.startswith(b".snd") else "<II", head, 4)
    return None if size == UNKNOWN_AU_SIZE else (start, size)


def _nist_promise(file: IO[bytes]) -> tuple[int, int] | None:
    """NIST Sphere, the LDC's format with text fields. The sizes of compressed samples are not stated."""
    file.seek(0)
    text = file.read(NIST_HEADER)
    if re.search(rb"sample_coding -s\d+ \S*(shorten|wavpack|shortpack)", text):
        return None
    counts = [re.search(rb"\n" + name + rb" -i (\d{1,15})\n", text) for name in (b"sample_count", b"sample_n_bytes")]
    channels = re.search(rb"\nchannel_count -i (\d{1,4})\n", text)
    start = re.match(rb"NIST_1A\s+(\d{1,9})\s", text)
    if start is None or any(count is None for count in counts):
        return None
    size = int(channels[1]) if channels else 1
    for count in counts:
        size *= int(count[1]) if count else 0
    return int(start[1]), size
