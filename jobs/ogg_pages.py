"""Scan the pages of an Ogg file: where each link of a chain begins, and how much audio is missing by its pages.

Sources: RFC 3533 (pages, CRC), RFC 7845 (granule positions and packet lengths of Opus), the Vorbis I specification (rate).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from jobs.audio_tags import only_tags

__all__ = ["OggLink", "page_checksum", "scan_ogg"]

HEADER = struct.Struct("<4sBBqIIIB")
CONTINUED, FIRST, LAST = 1, 2, 4
NO_PACKET_ENDS = -1
READ_BYTES = 1 << 20
MOST_WASTED_BYTES = 64 << 20
"""Bytes of damaged pages to search through for others inside them; after that, a damaged page's stated length is trusted."""
LONGEST_PAGE = 27 + 255 + 255 * 255
LONGEST_PAGE_SECONDS = 600
"""Most audio that the header of a cut page may promise."""
OPUS_RATE = 48000
BYTES_PER_SECOND = 8000
"""Estimate where nothing is known."""
MOST_LINKS = 10_000
"""Links of a chain: more are not recordings, and would be slow."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class _Page:
    begin: int
    end: int
    """Beyond the end of the file if the page is cut."""
    flags: int
    granule: int
    serial: int
    number: int
    body: bytes
    segments: bytes
    whole: bool


@dataclass(slots=True)
class OggLink:
    """A link of a chained Ogg file: a part that is a complete Ogg file."""

    begin: int
    end: int
    serials: set[int] = field(default_factory=set)
    codec: str = ""
    """`opus`, `vorbis` or empty."""
    rate: int = 0
    """Unit of granule positions, in Hz; 0 if unknown."""
    pre_skip: int = 0
    start: int | None = None
    """Granule position at which the audio begins."""
    last: int = 0
    """The highest granule position that any page states, whole or damaged."""
    open_end: bool = False
    """Opus whose last page is trimmed but lacks the end-of-stream flag, which libsndfile takes for damage."""

    sound_seconds: float | None = None
    """Seconds that can be heard before the first missing pages, other than at the end; None if no such pages are missing."""
    page_ends: dict[int, float] = field(default_factory=dict)
    """Place of a whole page -> seconds at which its audio ends. Without the last page, which may be trimmed; empty if the
    time of the first page is unknown, or pages may be missing before the last one.
    """
    pages: int = 0
    bad: int = 0
    """Number of pages, and of places where pages are damaged, cut or missing."""
    whole_bytes: int = 0
    lost_bytes: int = 0
    """Bytes of whole audio pages, and of possible pages that are not counted otherwise."""

    @property
    def damaged(self) -> bool:
        """Whether pages are cut, missing, or have a wrong checksum."""
        return self.bad > 0

    def missing_seconds(self, heard: float) -> float:
        """Seconds promised beyond those heard, if pages are damaged; an estimate where the pages do not state it."""
        if not self.damaged:
            return 0.0
        if not heard:
            return self.likely_seconds()
        promised = self.seconds()
        missing = heard * self.bad / self.pages if promised is None else max(promised - heard, 0.0)
        return missing + heard * self.lost_bytes / max(self.whole_bytes, 1)

    def likely_seconds(self) -> float:
        """Duration stated by the pages, or estimated from the bytes."""
        return self.seconds() or (self.end - self.begin) / BYTES_PER_SECOND

    def seconds(self) -> float | None:
        """Duration stated by the pages; None if they do not state it."""
        if not self.rate or self.start is None or len(self.serials) != 1:
            return None
        return max(self.last - self.start - self.pre_skip, 0) / self.rate


def scan_ogg(file: IO[bytes], begin: int = 0) -> list[OggLink]:
    """The links of a chain; one if the file is not chained. Bytes that are not pages are skipped."""
    links: list[OggLink] = []
    state = _State()
    for page in _pages(file, begin):
        if page.flags & FIRST and page.whole and state.heads_over and len(links) < MOST_LINKS:
            if links:
                links[-1].end = page.begin
                state.finish(links[-1], file)
            links.append(OggLink(page.begin, page.begin))
            state = _State()
        if links:
            state.take(links[-1], page)
    if links:
        links[-1].end = file.seek(0, io.SEEK_END)
        state.finish(links[-1], file)
    return links


class _State:
    """What the link's pages have shown so far."""

    def __init__(self) -> None:
        self._began = False
        self._end = 0
        """Where the last page ends."""
        self._beyond_heads = False
        self._after_damage = False
        self._next: dict[int, int] = {}
        self._samples = self._bytes = 0
        """Samples between the granule positions of consecutive pages, and bytes of the later page of each pair."""
        self._first: _Page | None = None
        """The first whole page with audio."""
        self._last: _Page | None = None
        self._lost_before = 0
        """Bytes of damaged or missing pages before `_first`."""
        self._sound: int | None = None
        """The last granule position before the first place where pages are missing."""
        self._last_follows = False
        self._granules: dict[int, int] = {}
        """Granule positions of whole pages, by their place."""
        self._left = 0
        """Samples in the last page by granule positions, which may trim it."""

    @property
    def heads_over(self) -> bool:
        """Whether a first page begins a new link: the first pages of multiplexed streams come together."""
        return not self._began or self._beyond_heads

    def take(self, link: OggLink, page: _Page) -> None:
        self._began = True
        link.pages += 1
        if not page.whole:
            link.bad += 1
            self._after_damage = True
            if page.serial in link.serials and link.last < page.granule <= link.last + LONGEST_PAGE_SECONDS * link.rate:
                link.last = page.granule
                self._end = page.end
            return
        before, self._end = self._end, page.end
        if page.serial not in link.serials and not page.flags & FIRST:  # a stream whose beginning is damaged
            link.bad += 1
            link.lost_bytes += page.end - page.begin
            return
        if page.flags & FIRST:
            link.serials.add(page.serial)
            self._next[page.serial] = page.number + 1
            _read_head(link, page.body)
            return
        self._beyond_heads = True
        follows = page.number == self._next.get(page.serial)
        self._next[page.serial] = page.number + 1
        if not follows and (self._first is not None or page.begin > before):
            link.bad += not self._after_damage
            if self._first is None:
                self._lost_before += page.begin - before
        self._after_damage = False
        if self._sound is None and link.bad:
            self._sound = 0 if self._last is None else self._last.granule
        self._take_audio(link, page, follows=follows)

    def _take_audio(self, link: OggLink, page: _Page, *, follows: bool) -> None:
        if page.granule <= 0:
            return
        link.whole_bytes += page.end - page.begin
        self._left = page.granule - (self._last.granule if self._last else 0)
        if self._first is None:
            self._first = page
        elif follows:
            self._samples += self._left
            self._bytes += len(page.body)
        self._last, self._last_follows = page, follows
        self._granules[page.begin] = page.granule
        link.last = max(link.last, page.granule)

    def finish(self, link: OggLink, file: IO[bytes]) -> None:
        """Complete the link after its last page, which tags may follow."""
        if 0 < self._end < link.end:
            file.seek(self._end)
            if not only_tags(file.read(min(link.end - self._end, READ_BYTES)), at_end=True):
                link.bad += 1
                link.lost_bytes += link.end - self._end
        link.sound_seconds = None if self._sound is None else 0.0
        if self._first is None or self._last is None:
            return
        if link.codec == "opus":
            begin = max(self._first.granule - _opus_samples(self._first), 0)
            link.open_end = not self._last.flags & LAST and self._left < _opus_samples(self._last)
        else:  # only a decoder knows how many samples a page holds
            begin = max(self._first.granule - self._likely_samples(len(self._first.body)), 0)
        lost = self._likely_samples(self._lost_before)
        if begin <= 2 * lost + link.rate and (lost or link.codec != "opus"):
            link.start = 0  # as in most streams; one cut out of another begins far from 0
        else:
            link.start = begin
            link.lost_bytes += self._lost_before
        is_exact = link.codec == "opus" or not link.start
        if self._sound is not None and is_exact and link.rate and len(link.serials) == 1:
            link.sound_seconds = max(self._sound - link.start - link.pre_skip, 0) / link.rate
        if self._sound and self._last_follows and link.rate and len(link.serials) == 1:
            del self._granules[self._last.begin]
            link.page_ends = {place: granule / link.rate for place, granule in self._granules.items()}

    def _likely_samples(self, size: int) -> int:
        """Estimated samples in `size` bytes of pages."""
        if self._first is not None and not self._bytes:
            return self._first.granule * size // max(len(self._first.body), 1)
        return size * self._samples // max(self._bytes, 1)


def _read_head(link: OggLink, body: bytes) -> None:
    if body.startswith(b"OpusHead") and len(body) >= 19:
        link.codec, link.rate, link.pre_skip = "opus", OPUS_RATE, int.from_bytes(body[10:12], "little")
    elif body.startswith(b"\x01vorbis") and len(body) >= 30:
        link.codec, link.rate = "vorbis", int.from_bytes(body[12:16], "little")


def _opus_samples(page: _Page) -> int:
    """Samples, at 48 kHz, of the packets that end in a page (RFC 6716, section 3.1)."""
    at = total = 0
    begins = not page.flags & CONTINUED
    length = 0
    for size in page.segments:
        length += size
        if size == 255:
            continue
        if begins:
            total += _packet_samples(page.body[at : at + min(length, 2)])
        at += length
        length, begins = 0, True
    return total


def _packet_samples(packet: bytes) -> int:
    if not packet:
        return 0
    mode, code = packet[0] >> 3, packet[0] & 3
    if mode < 12:
        frame = (480, 960, 1920, 2880)[mode & 3]
    elif mode < 16:
        frame = (480, 960)[mode & 1]
    else:
        frame = (120, 240, 480, 960)[mode & 3]
    count = (1, 2, 2)[code] if code < 3 else (packet[1] & 63 if len(packet) > 1 else 0)
    return frame * count


def _pages(file: IO[bytes], position: int) -> Iterator[_Page]:
    """All pages: whole ones with a correct checksum, and those that are cut by the end of the file or damaged."""
    end = file.seek(0, io.SEEK_END)
    file.seek(position)
    buffer, base, wasted = b"", position, 0
    while True:
        if len(buffer) < LONGEST_PAGE and base + len(buffer) < end:
            file.seek(base + len(buffer))
            buffer += file.read(READ_BYTES)
        at = 0
        limit = len(buffer) if base + len(buffer) >= end else len(buffer) - LONGEST_PAGE
        while True:
            found = buffer.find(b"OggS\0", at)
            if found < 0 or found > limit:
                at = max(at, len(buffer) - 4 if found < 0 else found)
                break
            page = _page(buffer, found, base)
            yield page
            wasted += 0 if page.whole else len(page.body)
            skip = page.whole or wasted > MOST_WASTED_BYTES
            at = max(page.end - base, found + 4) if skip else found + 4
        buffer, base = buffer[at:], base + at
        if base + len(buffer) >= end and (len(buffer) < 5 or b"OggS\0" not in buffer):
            return


def _page(buffer: bytes, at: int, base: int) -> _Page:
    if at + HEADER.size > len(buffer):
        return _Page(base + at, base + at, 0, NO_PACKET_ENDS, 0, 0, b"", b"", whole=False)
    _, _, flags, granule, serial, number, checksum, count = HEADER.unpack_from(buffer, at)
    segments = buffer[at + HEADER.size : at + HEADER.size + count]
    begin = at + HEADER.size + count
    end = begin + sum(segments)
    whole = end <= len(buffer) and len(segments) == count
    if whole:
        unsigned = buffer[at : at + 22] + bytes(4) + buffer[at + 26 : end]
        whole = page_checksum(unsigned) == checksum
        if not whole:
            granule = NO_PACKET_ENDS  # the damage may be in its header
    return _Page(base + at, base + end, flags, granule, serial, number, buffer[begin:end], segments, whole)


def page_checksum(data: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial, with the bits of each byte and of the result reversed, starting from 0."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")
