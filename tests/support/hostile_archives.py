"""7z, zip and tar archives made by hand: honest ones, and those that no honest program writes."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AES", "COPY", "LZMA2", "REPARSE_POINT", "Entry", "link", "number", "pairs", "sevenzip", "tar_of", "zip_of"]

COPY, LZMA2, AES = b"\x00", b"\x21", b"\x06\xf1\x07\x01"
DICTIONARY_BITS = 16
"""For LZMA2: 1 MiB."""
FILTERS = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
DIRECTORY, UNIX_LINK = 0x10, 0x8000 | 0o120777 << 16
REPARSE_POINT = 0x400


@dataclass(frozen=True)
class Entry:
    """A member: data, or None for a directory."""

    name: str
    data: bytes | None
    attributes: int = 0
    crc: int | None = None
    """Instead of the true one."""


def link(name: str, target: str) -> Entry:
    """A symbolic link as 7-Zip and Info-ZIP store it on Unix."""
    return Entry(name, target.encode(), UNIX_LINK)


def pairs(count: int, size: int = 1000) -> list[Entry]:
    """`s0/c0000.wav` and its `.lab`, and so on, in three text encodings; the audio is incompressible."""
    entries: list[Entry] = []
    for i in range(count):
        audio = b"".join(struct.pack("<I", zlib.crc32(b"%d %d" % (i, j))) for j in range((size + i) // 4 + 1))[: size + i]
        text = f"第{i}句".encode(("utf-8", "utf-8-sig", "gb18030")[i % 3])
        entries += [Entry(f"s{i % 2}/c{i:04d}.wav", audio), Entry(f"s{i % 2}/c{i:04d}.lab", text)]
    return entries


def number(value: int) -> bytes:
    """As 7z writes numbers."""
    for more in range(8):
        if value < 1 << (7 * (more + 1)):
            first = (0xFF00 >> more & 0xFF) | value >> (8 * more)
            return bytes([first]) + (value & ((1 << 8 * more) - 1)).to_bytes(more, "little")
    return b"\xff" + value.to_bytes(8, "little")


def sevenzip(
    entries: Sequence[Entry],
    *,
    method: bytes = COPY,
    blocks: int = 1,
    packed_list: bool = False,
    list_claims: int | None = None,
    list_method: bytes = LZMA2,
    damage: int | None = None,
) -> bytes:
    """A 7z: `blocks` solid blocks, its list packed or plain; `damage` is the position of a data byte to turn over."""
    full = [entry for entry in entries if entry.data]
    step = max(1, -(-len(full) // blocks))
    groups = [full[at : at + step] for at in range(0, len(full), step)]
    packed = [_pack(method, b"".join(entry.data or b"" for entry in group)) for group in groups]
    data = bytearray(b"".join(packed))
    if damage is not None:
        data[damage] ^= 0xFF
    listing = b"\x01"
    if groups:
        sizes = [sum(len(entry.data or b"") for entry in group) for group in groups]
        listing += b"\x04" + _streams(0, [len(part) for part in packed], sizes, method, _substreams(groups)) + b"\x00"
    listing += _files(entries) + b"\x00"
    if packed_list or list_claims is not None:
        stored = listing if list_method == AES else _pack(list_method, listing)
        claims = len(listing) if list_claims is None else list_claims
        crc = b"\x0a\x01" + struct.pack("<I", zlib.crc32(listing))
        listing = b"\x17" + _streams(len(data), [len(stored)], [claims], list_method, b"", crc) + b"\x00"
        data += stored
    start = struct.pack("<QQI", len(data), len(listing), zlib.crc32(listing))
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<I", zlib.crc32(start)) + start + bytes(data) + listing


def _pack(method: bytes, data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS) if method == LZMA2 else data


def _streams(
    position: int, packed: list[int], sizes: list[int], method: bytes, substreams: bytes, crcs: bytes = b""
) -> bytes:
    coder = bytes([len(method) | (0x20 if method == LZMA2 else 0)]) + method
    coder += b"\x01" + bytes([DICTIONARY_BITS]) if method == LZMA2 else b""
    pack_info = b"\x06" + number(position) + number(len(packed)) + b"\x09" + b"".join(map(number, packed)) + b"\x00"
    folders = b"\x0b" + number(len(sizes)) + b"\x00" + (b"\x01" + coder) * len(sizes)
    unpack_info = b"\x07" + folders + b"\x0c" + b"".join(map(number, sizes)) + crcs + b"\x00"
    return pack_info + unpack_info + substreams


def _substreams(groups: list[list[Entry]]) -> bytes:
    counts = b"\x0d" + b"".join(number(len(group)) for group in groups)
    sizes = b"\x09" + b"".join(number(len(entry.data or b"")) for group in groups for entry in group[:-1])
    crcs = [zlib.crc32(entry.data or b"") if entry.crc is None else entry.crc for group in groups for entry in group]
    return b"\x08" + counts + sizes + b"\x0a\x01" + struct.pack(f"<{len(crcs)}I", *crcs) + b"\x00"


def _bits(values: Sequence[bool]) -> bytes:
    padded = [*values, *[False] * (-len(values) % 8)]
    return bytes(sum(bit << (7 - i) for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8))


def _files(entries: Sequence[Entry]) -> bytes:
    empty = [not entry.data for entry in entries]
    names = b"\x00" + b"".join(entry.name.encode("utf-16-le", "surrogatepass") + b"\0\0" for entry in entries)
    attributes = [entry.attributes or (DIRECTORY if entry.data is None else 0) for entry in entries]
    properties = {0x11: names, 0x15: b"\x01\x00" + struct.pack(f"<{len(entries)}I", *attributes)}
    if any(empty):
        files = [entry.data is not None for entry in entries if not entry.data]
        properties = {0x0E: _bits(empty), 0x0F: _bits(files), **properties}
    fields = b"".join(bytes([kind]) + number(len(content)) + content for kind, content in properties.items())
    return b"\x05" + number(len(entries)) + fields + b"\x00"


def zip_of(entries: Sequence[Entry], method: int = zipfile.ZIP_DEFLATED, encoding: str = "utf-8") -> bytes:
    """A zip; with another encoding than UTF-8, its names are in that and nothing says so."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for entry in entries:
            info = _Info(entry.name if entry.data is not None else f"{entry.name}/")
            info.encoding = encoding
            info.compress_type = method
            info.external_attr = entry.attributes if entry.data is not None else DIRECTORY
            archive.writestr(info, entry.data or b"")
    return file.getvalue()


class _Info(zipfile.ZipInfo):
    encoding: str

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 (zipfile has no other way to write names as they are)
        if self.encoding == "utf-8":
            return self.filename.encode(), self.flag_bits | 0x800
        return self.filename.encode(self.encoding), self.flag_bits


def tar_of(entries: Sequence[Entry], mode: str = "w:gz", *, hardlink: tuple[str, str] | None = None) -> bytes:
    """A tar, compressed as `tarfile` calls it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            if entry.attributes == UNIX_LINK:
                info.type, info.linkname = tarfile.SYMTYPE, (entry.data or b"").decode()
                archive.addfile(info)
            elif entry.data is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(entry.data)
                archive.addfile(info, io.BytesIO(entry.data))
        if hardlink is not None:
            info = tarfile.TarInfo(hardlink[0])
            info.type, info.linkname = tarfile.LNKTYPE, hardlink[1]
            archive.addfile(info)
    return file.getvalue()
