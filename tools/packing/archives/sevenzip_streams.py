"""The fields of a 7z list, and its part about packed streams (see sevenzip_header.py)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from tools.packing.archives.safety import refuse_long_list

__all__ = ["END", "Broken", "Fields", "Folder", "Streams", "read_streams"]

END, PACK_INFO, UNPACK_INFO, SUBSTREAMS = 0x00, 0x06, 0x07, 0x08
SIZE, CRC, FOLDER, UNPACK_SIZES, UNPACK_STREAMS = 0x09, 0x0A, 0x0B, 0x0C, 0x0D
MOST_CODERS = 32


class Broken(Exception):  # noqa: N818 (it names the damage)
    """The list is damaged; the message says how."""


class Fields:
    """A reader of the numbers, bits and bytes of a list."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """One byte, for example a type of field."""
        if self._at >= len(self._data):
            raise Broken("its list ends too early")
        self._at += 1
        return self._data[self._at - 1]

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > len(self._data) - self._at:
            raise Broken("its list ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        """A number: as many bytes follow as the first one has leading 1 bits; its other bits are the highest ones."""
        first = self.byte()
        if first < 0x80:
            return first
        more = 8 - (first ^ 0xFF).bit_length()
        return int.from_bytes(self.take(more), "little") | (first & (0x7F >> more)) << (8 * more)

    def bits(self, count: int) -> list[bool]:
        """Packed, the highest bit first."""
        data = self.take((count + 7) // 8)
        return [bool(data[number >> 3] & 0x80 >> (number & 7)) for number in range(count)]

    def defined(self, count: int) -> list[bool]:
        """Which of `count` things have a value."""
        return [True] * count if self.byte() else self.bits(count)

    def crcs(self, count: int) -> list[int | None]:
        """A CRC for each of `count` things that has one."""
        defined = self.defined(count)
        values = iter(struct.unpack(f"<{sum(defined)}I", self.take(4 * sum(defined))))
        return [next(values) if there else None for there in defined]

    def rest(self) -> bytes:
        """The rest."""
        return self.take(len(self._data) - self._at)

    def expect(self, what: int) -> None:
        """Raises Broken unless this is the next byte."""
        if (found := self.byte()) != what:
            raise Broken(f"its list has {found:#x} where {what:#x} belongs")


@dataclass(slots=True)
class Folder:
    """Packed streams that are unpacked together into one stream of any number of files."""

    coders: list[tuple[bytes, bytes]]
    """(method, properties)"""
    outputs: int
    bound: set[int]
    """Outputs that are inputs of other coders."""
    sizes: list[int] = field(default_factory=list)
    crc: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the unpacked stream."""
        return next(size for number, size in enumerate(self.sizes) if number not in self.bound)


@dataclass(slots=True)
class Streams:
    """Packed streams, and the files in them."""

    position: int = 0
    packed: list[int] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    files: list[tuple[int, int | None]] = field(default_factory=list)
    """(size, CRC) of each file that is not empty."""


def read_streams(path: Path, fields: Fields) -> Streams:
    """Read the fields up to their end marker. Raises Broken, or UsageError for absurd counts."""
    streams = Streams()
    kind = fields.byte()
    if kind == PACK_INFO:
        _pack_info(path, fields, streams)
        kind = fields.byte()
    if kind == UNPACK_INFO:
        _unpack_info(path, fields, streams)
        kind = fields.byte()
    if kind == SUBSTREAMS:
        _substreams(path, fields, streams)
        kind = fields.byte()
    else:
        streams.files = [(folder.size, folder.crc) for folder in streams.folders]
    if kind != END:
        raise Broken(f"its list has {kind:#x} where its streams end")
    return streams


def _pack_info(path: Path, fields: Fields, streams: Streams) -> None:
    streams.position = fields.number()
    count = fields.number()
    refuse_long_list(path, members=count)
    while (kind := fields.byte()) != END:
        if kind == SIZE:
            streams.packed = [fields.number() for _ in range(count)]
        elif kind == CRC:
            fields.crcs(count)
        else:
            raise Broken(f"its list has {kind:#x} among the packed sizes")


def _unpack_info(path: Path, fields: Fields, streams: Streams) -> None:
    fields.expect(FOLDER)
    count = fields.number()
    refuse_long_list(path, members=count)
    fields.expect(0)  # external data, which no program writes
    streams.folders = [_folder(fields) for _ in range(count)]
    fields.expect(UNPACK_SIZES)
    for folder in streams.folders:
        folder.sizes = [fields.number() for _ in range(folder.outputs)]
    while (kind := fields.byte()) != END:
        if kind != CRC:
            raise Broken(f"its list has {kind:#x} among the unpacked sizes")
        for folder, crc in zip(streams.folders, fields.crcs(count), strict=True):
            folder.crc = crc


def _folder(fields: Fields) -> Folder:
    coders: list[tuple[bytes, bytes]] = []
    inputs = outputs = 0
    for _ in range(_few(fields.number())):
        flags = fields.byte()
        method = fields.take(flags & 0xF)
        more_in, more_out = (_few(fields.number()), _few(fields.number())) if flags & 0x10 else (1, 1)
        inputs, outputs = inputs + more_in, outputs + more_out
        coders.append((method, fields.take(fields.number()) if flags & 0x20 else b""))
    bound = set()
    for _ in range(outputs - 1):
        fields.number()
        bound.add(fields.number())
    packed = inputs - (outputs - 1)
    if packed > 1:
        for _ in range(packed):
            fields.number()
    if packed < 1 or bound.issuperset(range(outputs)):
        raise Broken("its list binds coders to nothing")
    return Folder(coders, outputs, bound)


def _few(count: int) -> int:
    if not 1 <= count <= MOST_CODERS:
        raise Broken(f"its list has {count:,} coders in one chain")
    return count


def _substreams(path: Path, fields: Fields, streams: Streams) -> None:
    counts = [1] * len(streams.folders)
    kind = fields.byte()
    if kind == UNPACK_STREAMS:
        counts = [fields.number() for _ in streams.folders]
        refuse_long_list(path, members=sum(counts))
        kind = fields.byte()
    sizes: list[list[int]] = []
    for folder, count in zip(streams.folders, counts, strict=True):
        own = [fields.number() for _ in range(count - 1)] if kind == SIZE else []
        if (count and len(own) != count - 1) or sum(own) > folder.size:
            raise Broken("its list has files that are larger than what they are in")
        sizes.append([*own, folder.size - sum(own)] if count else [])
    if kind == SIZE:
        kind = fields.byte()
    known = [count == 1 and folder.crc is not None for folder, count in zip(streams.folders, counts, strict=True)]
    crcs: list[int | None] = []
    while kind != END:
        if kind != CRC:
            raise Broken(f"its list has {kind:#x} among the sizes of files")
        crcs = fields.crcs(sum(count for count, there in zip(counts, known, strict=True) if not there))
        kind = fields.byte()
    left = iter(crcs)
    for folder, own, there in zip(streams.folders, sizes, known, strict=True):
        streams.files.extend((size, folder.crc if there else next(left, None)) for size in own)
