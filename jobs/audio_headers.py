"""What audio files promise in their headers, so that a file that is cut short is told from one that is complete.

libsndfile shortens a file whose samples end early without a word; that is lost audio, so here it is an error. MP3 is the
other way round: without a Xing, Info or VBRI header it promises nothing, and libsndfile guesses a length and stops there.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from typing import IO

from audio_tokenizers.errors import ClipError

__all__ = ["mp3_states_its_length", "refuse_cut_file"]

STREAMED_SIZES = (0, 0x7F000000)
"""A file written to a pipe states 0, or at least 0x7F000000, as its size; its samples go on to the end of the file."""
UNKNOWN_AU_SIZE = 0xFFFFFFFF
LONGEST_OGG_PAGE = 27 + 255 + 255 * 255
NIST_HEADER = 1024
ID3_HEADER = 10
MP3_SEARCH = 4096
"""The first frame's header stands right after ID3 tags, and a frame has at most 2881 bytes."""


@dataclass(frozen=True, slots=True)
class _Chunks:
    """How a format lays out its chunks, and what the one with the samples is called."""

    header: struct.Struct
    first: int
    samples: bytes
    align: int
    counts_header: bool = False

    def find(self, file: IO[bytes], end: int, wanted: bytes) -> tuple[int, int] | None:
        """(start, stated size) of the first chunk that is called `wanted`."""
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


def refuse_cut_file(file: IO[bytes]) -> None:
    """Raise ClipError `decode` if the file ends before the samples that its header promises. Leaves it at position 0.

    A WAV that states 0 bytes of samples, has some and nothing else is given the size of a streamed one in place, since
    libsndfile would take it for empty.
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
    elif magic == b"OggS":
        promise = _last_ogg_page(file, end)
    file.seek(0)
    if promise is not None and sum(promise) > end:
        start, size = promise
        message = f"cut short: {size} bytes are promised from byte {start} on, the file has {max(end - start, 0)}"
        raise ClipError("decode", message)


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
    if size == 0 and magic == b"RIFF" and start < end and not _whole_chunks(file, start, end):
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
    """NIST Sphere, as the LDC uses it: fields in text. Compressed samples promise nothing."""
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


def _last_ogg_page(file: IO[bytes], end: int) -> tuple[int, int] | None:
    """Where the last page that begins in the file begins, and its length."""
    begin = file.seek(max(0, end - LONGEST_OGG_PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return None
    segments = tail[at + 27 : at + 27 + tail[at + 26]] if len(tail) > at + 26 else b""
    length = 27 + (tail[at + 26] + sum(segments) if len(tail) > at + 26 else 0)
    return begin + at, length


def mp3_states_its_length(file: IO[bytes]) -> bool:
    """Whether an MP3 says how many frames it has. Leaves the file at position 0."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(ID3_HEADER)
        if head[:3] != b"ID3" or len(head) < ID3_HEADER:
            break
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        position += ID3_HEADER * (2 if head[5] & 0x10 else 1) + size
    file.seek(position)
    text = file.read(MP3_SEARCH)
    file.seek(0)
    for name in (b"Xing", b"Info"):
        at = text.find(name)
        if at >= 0:
            flags, frames = text[at + 4 : at + 8], text[at + 8 : at + 12]
            return bool(flags[3:] and flags[3] & 1 and any(frames))
    return b"VBRI" in text
