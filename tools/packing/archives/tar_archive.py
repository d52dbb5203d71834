"""Tars as archives of files, plain or compressed by gzip, zstd, bzip2 or xz: one pass that lists, and one for the data."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from isal.isal_zlib import crc32

from jobs.tar_format import TarDamage, TarStream
from tools.common.byte_progress import ByteProgress
from tools.packing.archives.listing import TABLES_IN_MEMORY, ArchiveMember, MemberData, broken
from tools.packing.archives.safety import decode_names, refuse_bomb, refuse_long_list
from tools.packing.layouts.tree import is_table_name

__all__ = ["list_tar", "open_tar", "table_in"]

READ_BYTES = 1 << 20


class _Unpacked:
    """A bzip2 or xz file that reports damage to TarStream as gzip does."""

    def __init__(self, file: bz2.BZ2File | lzma.LZMAFile) -> None:
        self._file = file
        self.close = file.close

    def read(self, size: int) -> bytes:
        """Read. Raises EOFError if the data is damaged."""
        try:
            return self._file.read(size)
        except lzma.LZMAError as error:
            raise EOFError(str(error)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise EOFError(str(error)) from None  # all that bz2 says


class _AnyTar(TarStream):
    """A tar with more compressions than runs read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(path)

    def _open(self) -> tuple[IO[bytes], str | None]:
        magic = self._raw.read(6)
        self._raw.seek(0)
        file: Any
        if magic.startswith(b"BZh"):
            file = _Unpacked(bz2.BZ2File(self._raw))
            return file, "bzip2"
        if magic.startswith(b"\xfd7zXZ"):
            file = _Unpacked(lzma.LZMAFile(self._raw))  # noqa: SIM115 (closed with the tar)
            return file, "xz"
        return super()._open()

    def _take(self, size: int) -> bytes:
        data = super()._take(size)
        refuse_bomb(self._path, self.bytes_on_disk, self.offset)  # zeros after the last member can be a bomb, too
        return data


@contextmanager
def _opened(path: Path) -> Iterator[TarStream]:
    """A tar whose damage raises UsageError."""
    try:
        stream = _AnyTar(path)
        try:
            yield stream
        finally:
            stream.close()
    except TarDamage as damage:
        raise broken(path, str(damage)) from None


def list_tar(path: Path) -> tuple[list[ArchiveMember], dict[int, bytes]]:
    """(members, contents by position of those that may be tables of texts), from a pass over all data.

    The format has no checksums of data; they are computed here. Raises UsageError if the tar is damaged or a bomb.
    """
    size_on_disk = path.stat().st_size
    found: list[tuple[bytes, ArchiveMember]] = []
    tables: dict[int, bytes] = {}
    names_bytes = table_bytes = 0
    progress = ByteProgress(f"listing {path.name}", size_on_disk)
    with progress.on_terminal(), _opened(path) as stream:
        told = 0
        for member in stream:
            refuse_bomb(path, size_on_disk, stream.offset + member.size)
            names_bytes += len(member.name)
            is_table = member.size <= TABLES_IN_MEMORY - table_bytes and _may_be_table(member.name)
            table_bytes += member.size if is_table else 0
            refuse_long_list(path, size=names_bytes, members=len(found) + 1)
            crc = 0
            pieces = []
            while data := stream.read(READ_BYTES):
                crc = crc32(data, crc)
                if is_table:
                    pieces.append(data)
            if is_table:
                tables[len(found)] = b"".join(pieces)
            progress(stream.bytes_consumed - told)
            told = stream.bytes_consumed
            found.append((member.name, ArchiveMember("", member.size, crc, member.kind)))
    names = decode_names([name for name, _ in found], "utf-8")
    members = [
        ArchiveMember(name.removeprefix("./"), member.size, member.crc, member.kind)
        for name, (_, member) in zip(names, found, strict=True)
    ]
    return members, tables


def table_in(path: Path) -> str | None:
    """The name of the first member that may be a table of texts. Raises UsageError if the tar is damaged."""
    with _opened(path) as stream:
        found = (member.name for member in stream if member.kind == "file" and _may_be_table(member.name))
        name = next(found, None)
    return None if name is None else name.decode("utf-8", "replace")


def _may_be_table(name: bytes) -> bool:
    return is_table_name(name.rpartition(b"/")[2].decode("utf-8", "replace"))


@contextmanager
def open_tar(
    path: Path, members: Sequence[ArchiveMember], wanted: Collection[int]
) -> Iterator[Iterator[tuple[int, MemberData]]]:
    """Iterates over the `wanted` members, as (position, data). Raises UsageError if the tar differs from its list."""
    with _opened(path) as stream:
        yield _wanted_data(path, stream, members, wanted)


def _wanted_data(
    path: Path, stream: TarStream, members: Sequence[ArchiveMember], wanted: Collection[int]
) -> Iterator[tuple[int, MemberData]]:
    last = max(wanted, default=-1)
    for index, member in enumerate(stream):
        if index in wanted:
            if member.size != members[index].size:
                raise broken(path, f"{members[index].name} has changed since it was listed")
            data = MemberData(path, members[index], stream.read)
            yield index, data
            data.skip()
        if index >= last:
            return
