"""The list at the end of a 7z archive: names, sizes, CRCs and kinds, in the order of their data.

It is parsed here, not taken from `7z l`: that output depends on the program's version, changes names, and unpacks a list of
any size before it could be refused. Source of the layout: 7zFormat.txt of the LZMA SDK.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from audio_tokenizers.errors import UsageError
from tools.packing.archives.listing import ArchiveMember, MemberKind, broken
from tools.packing.archives.safety import LARGEST_LIST, refuse_long_list
from tools.packing.archives.sevenzip_streams import END, Broken, Fields, Folder, Streams, read_streams

__all__ = ["read_sevenzip_list"]

SIGNATURE = b"7z\xbc\xaf\x27\x1c"
START = 32
"""Bytes before the data: signature, version, and the list's position."""
HEADER, ARCHIVE_PROPERTIES, ADDITIONAL_STREAMS, MAIN_STREAMS, FILES = 0x01, 0x02, 0x03, 0x04, 0x05
EMPTY_STREAM, EMPTY_FILE, ANTI, NAMES, ATTRIBUTES, ENCODED_HEADER = 0x0E, 0x0F, 0x10, 0x11, 0x15, 0x17
COPY, LZMA, LZMA2, AES = b"\x00", b"\x03\x01\x01", b"\x21", b"\x06\xf1\x07\x01"
LEAST_DICTIONARY = 4096
MOST_NESTED = 4

REPARSE_POINT, DIRECTORY, UNIX_MODE = 0x400, 0x10, 0x8000
UNIX_KINDS: dict[int, MemberKind] = {stat.S_IFLNK: "link", stat.S_IFDIR: "directory", stat.S_IFREG: "file"}


def read_sevenzip_list(path: Path, file: BinaryIO) -> list[ArchiveMember]:
    """All members. Raises UsageError if the file is no 7z, damaged, encrypted, or claims an absurdly long list."""
    try:
        data = _plain_list(path, file)
        return list(_members(path, Fields(data))) if data else []
    except Broken as problem:
        raise broken(path, str(problem)) from None


def _plain_list(path: Path, file: BinaryIO) -> bytes:
    """The unpacked list; empty for an archive without members."""
    size_on_disk = file.seek(0, 2)
    file.seek(0)
    start = file.read(START)
    if not start.startswith(SIGNATURE):
        raise UsageError(f"{path}: expected a 7z file, found one that begins with {start[:8]!r}: name it as what it is")
    if len(start) < START:
        raise Broken(f"it ends after {len(start)} bytes")
    crc, offset, size, list_crc = struct.unpack("<IQQI", start[8:])
    if zlib.crc32(start[12:]) != crc:
        raise Broken("the CRC of its first 32 bytes is wrong")
    refuse_long_list(path, size=size)
    if START + offset + size > size_on_disk:
        raise Broken(f"it is cut: expected {START + offset + size:,} bytes, found {size_on_disk:,}")
    file.seek(START + offset)
    data = file.read(size)
    if zlib.crc32(data) != list_crc:
        raise Broken("the CRC of its list is wrong")
    for _ in range(MOST_NESTED):
        if data[:1] != bytes([ENCODED_HEADER]):
            return data
        fields = Fields(data)
        fields.byte()
        data = _unpacked_list(path, file, read_streams(path, fields))
    raise Broken(f"its list is packed more than {MOST_NESTED} times")


def _unpacked_list(path: Path, file: BinaryIO, streams: Streams) -> bytes:
    if not streams.folders or not streams.packed:
        raise Broken("its list is packed, but not there")
    folder = streams.folders[0]
    size = folder.size
    refuse_long_list(path, size=size)
    _refuse_encrypted(path, folder, "the names in it")
    if len(folder.coders) != 1 or folder.coders[0][0] not in (COPY, LZMA, LZMA2):
        raise Broken("its list is packed in a way that 7-Zip does not use")
    if START + streams.position + streams.packed[0] > file.seek(0, 2):
        raise Broken("its list is not within it")
    file.seek(START + streams.position)
    packed = file.read(min(streams.packed[0], LARGEST_LIST))
    method, properties = folder.coders[0]
    try:
        data = packed[:size] if method == COPY else _decoder(method, properties, size).decompress(packed, size)
    except (lzma.LZMAError, struct.error, IndexError, ValueError) as error:
        raise Broken(f"its list cannot be unpacked ({error})") from None
    if len(data) != size or (folder.crc is not None and zlib.crc32(data) != folder.crc):
        raise Broken("its list does not unpack to what it should")
    return data


def _decoder(method: bytes, properties: bytes, size: int) -> lzma.LZMADecompressor:
    """Filter of raw LZMA or LZMA2. The dictionary is limited to the unpacked size: nothing can refer further back."""
    if method == LZMA2:
        bits = properties[0]
        chain: dict[str, Any] = {"id": lzma.FILTER_LZMA2, "dict_size": (2 | bits & 1) << (bits // 2 + 11)}
    else:
        packed, dictionary = struct.unpack("<BI", properties)
        chain = {
            "id": lzma.FILTER_LZMA1,
            "lc": packed % 9,
            "lp": packed // 9 % 5,
            "pb": packed // 45,
            "dict_size": dictionary,
        }
    chain["dict_size"] = max(LEAST_DICTIONARY, min(chain["dict_size"], size))
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chain])


def _refuse_encrypted(path: Path, folder: Folder, what: str) -> None:
    if any(method == AES for method, _ in folder.coders):
        raise UsageError(
            f"{path}: expected an archive without a password, found {what} encrypted: unpack it and give the folder instead"
        )


def _members(path: Path, fields: Fields) -> Iterator[ArchiveMember]:
    fields.expect(HEADER)
    streams = Streams()
    while (kind := fields.byte()) != END:
        if kind == ARCHIVE_PROPERTIES:
            while fields.byte() != END:
                fields.take(fields.number())
        elif kind == ADDITIONAL_STREAMS:
            read_streams(path, fields)
        elif kind == MAIN_STREAMS:
            streams = read_streams(path, fields)
            for folder in streams.folders:
                _refuse_encrypted(path, folder, "its members")
        elif kind == FILES:
            yield from _files(path, fields, streams)
        else:
            raise Broken(f"its list has {kind:#x} between its parts")


def _files(path: Path, fields: Fields, streams: Streams) -> Iterator[ArchiveMember]:
    count = fields.number()
    refuse_long_list(path, members=count)
    names: list[str] = []
    attributes: list[int] = [0] * count
    empty = [False] * count
    empty_files: list[bool] = []
    anti: list[bool] = []
    while (kind := fields.byte()) != END:
        content = Fields(fields.take(fields.number()))
        if kind == EMPTY_STREAM:
            empty = content.bits(count)
        elif kind == EMPTY_FILE:
            empty_files = content.bits(sum(empty))
        elif kind == ANTI:
            anti = content.bits(sum(empty))
        elif kind == NAMES:
            names = _names(content)
        elif kind == ATTRIBUTES:
            attributes = _attributes(content, count)
    if len(names) != count or count - sum(empty) != len(streams.files):
        raise Broken(f"its list has {len(names):,} names and {len(streams.files):,} files with data for {count:,} members")
    with_data = iter(streams.files)
    real_files, undone = iter(empty_files), iter(anti)
    for name, no_data, attribute in zip(names, empty, attributes, strict=True):
        if no_data:
            is_file = next(real_files, False)
            kind_of = "other" if next(undone, False) else _kind(attribute) if is_file else "directory"
            yield ArchiveMember(name, 0, None, kind_of)
        else:
            yield ArchiveMember(name, *next(with_data), _kind(attribute))


def _names(content: Fields) -> list[str]:
    content.expect(0)
    text = content.rest().decode("utf-16-le", "replace")
    return text.split("\0")[:-1]


def _attributes(content: Fields, count: int) -> list[int]:
    defined = content.defined(count)
    content.expect(0)
    values = iter(struct.unpack(f"<{sum(defined)}I", content.take(4 * sum(defined))))
    return [next(values) if there else 0 for there in defined]


def _kind(attribute: int) -> MemberKind:
    if attribute & UNIX_MODE and (mode := stat.S_IFMT(attribute >> 16)):
        return UNIX_KINDS.get(mode, "other")
    if attribute & REPARSE_POINT:
        return "link"
    return "directory" if attribute & DIRECTORY else "file"
