"""A zip as a source: its list is at its end, and members are read one by one, when they are needed."""

from __future__ import annotations

import lzma
import stat
import struct
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from audio_tokenizers.errors import UsageError
from jobs.sidecars import reading_of
from jobs.tar_reader import AUDIO_IN_MEMORY
from tools.packing.archives.listing import (
    ArchiveMember,
    Listing,
    MemberData,
    MemberKind,
    Tables,
    broken,
    list_members,
    pair_of,
    read_text,
)
from tools.packing.archives.safety import decode_names, refuse_bomb, refuse_long_list
from tools.packing.layouts.tree import Planned
from tools.packing.pairs import Item, LeftOut, Pair, SourceOptions

__all__ = ["ZipList", "ZipSource", "list_zip", "open_zip"]

END = struct.Struct("<4s4H2LH")
END_MAGIC = b"PK\x05\x06"
END64 = struct.Struct("<4sQ2H2L4Q")
END64_MAGIC = b"PK\x06\x06"
END64_LOCATOR_BYTES = 20
LONGEST_COMMENT = 0xFFFF
LOCAL_HEADER_BYTES = 30

ENCRYPTED, UTF8 = 0x1 | 0x40 | 0x2000, 0x800
REPARSE_POINT = 0x400

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ZipList:
    """A zip and its list."""

    zip: zipfile.ZipFile
    infos: list[zipfile.ZipInfo]
    members: list[ArchiveMember]


def list_zip(path: Path) -> ZipList:
    """Raises UsageError if the list is damaged, hostile, or what it lists is encrypted."""
    opened = _open_zip(path)
    infos = opened.infolist()
    return ZipList(opened, infos, _members(path, infos))


@contextmanager
def open_zip(path: Path, listed: ZipList, wanted: Collection[int]) -> Iterator[Iterator[tuple[int, MemberData]]]:
    """Iterates over the `wanted` members in the list's order, as (position, data). Raises UsageError where it is damaged."""
    with closing(_wanted_data(path, listed, wanted)) as passing:
        yield passing


def _wanted_data(path: Path, listed: ZipList, wanted: Collection[int]) -> Generator[tuple[int, MemberData]]:
    for position in sorted(wanted):
        member = listed.members[position]
        with _damage_told(path, member.name), listed.zip.open(listed.infos[position]) as file:
            data = MemberData(path, member, file.read)
            yield position, data
            data.skip()


@contextmanager
def _damage_told(path: Path, name: str) -> Iterator[None]:
    """Turns zipfile's errors about a member into one message."""
    try:
        yield
    except NotImplementedError as error:
        raise UsageError(f"{path}: {name}: {error}: unpack the archive and give the folder instead") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise broken(path, f"{name}: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise broken(path, f"{name}: {error}") from None  # all that bz2 says


class ZipSource:
    """The pairs of a zip, in the order of their audio in its list."""

    def __init__(self, path: Path, name: str, options: SourceOptions, listed: ZipList) -> None:
        self.name = name
        self._path = path
        self._scratch = options.scratch
        self._lock = threading.Lock()
        """ZipFile counts open members, and not thread-safely."""
        self._zip, self._infos = listed.zip, listed.infos
        self._listing = list_members(path, listed.members, options)
        with closing(Tables(path, options.scratch)) as tables:
            for table in sorted(self._listing.layout.tables):
                self._read(table, partial(tables.keep, table))
            lines = self._listing.layout.shelf.read(tables.open)
        self.fingerprint = self._listing.fingerprint
        self.left_out: Sequence[LeftOut] = (*self._listing.left_out, *lines)
        self.found = self._listing.found
        positions = self._listing.positions
        self._listing.layout.reading = reading_of(options.texts, self._texts)
        self._planned = sorted(self._listing.planned, key=lambda item: positions[item.audio])
        self.items_total = len(self._planned)
        self.bytes_total = self._listing.bytes_total

    def items(self, start: int) -> Iterator[Item]:
        """The items from number `start` on. Calling one raises UsageError if the archive is damaged there."""
        for planned in self._planned[start:]:
            yield partial(self._pair, planned)

    def _pair(self, planned: Planned) -> Pair | LeftOut:
        listing: Listing = self._listing
        contents = {name: self._read(name, read_text) for name in planned.files if name not in listing.layout.tables}
        audio = partial(self._read, planned.audio, self._audio)
        return pair_of(planned, listing.layout, contents, audio, listing.size(planned.audio))

    def _texts(self) -> Iterator[bytes]:
        for planned in self._planned:
            yield from (self._read(name, read_text) for name in planned.files if name not in self._listing.layout.tables)

    def _audio(self, data: MemberData) -> bytes | BinaryIO:
        if data.member.size <= AUDIO_IN_MEMORY:
            return data.read_all()
        file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 (the pair's consumer closes it)
        try:
            data.copy_to(file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _read(self, name: str, take: Callable[[MemberData], Result]) -> Result:
        position = self._listing.positions[name]
        with self._reading(name, self._infos[position]) as read:
            return take(MemberData(self._path, self._listing.members[position], read))

    @contextmanager
    def _reading(self, name: str, info: zipfile.ZipInfo) -> Iterator[Callable[[int], bytes]]:
        with _damage_told(self._path, name):
            with self._lock:
                file = self._zip.open(info)
            try:
                yield file.read
            finally:
                with self._lock:
                    file.close()


def _open_zip(path: Path) -> zipfile.ZipFile:
    """A zip with its list loaded, after a check of the list's size. Its file is closed with the last reference to it."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        count, size = _claims(path, file)
        refuse_long_list(path, size=size, members=count)
        try:
            opened = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # ValueError: a seek to before the start
            raise broken(path, f"its list cannot be read ({error})") from None
        # ZipFile closes it, too, but in a reference cycle the garbage collector may finalize the file first.
        weakref.finalize(opened, file.close)
        stack.pop_all()
    return opened


def _claims(path: Path, file: BinaryIO) -> tuple[int, int]:
    """(members, bytes) of the list, as claimed at the end of the archive."""
    start = file.read(4)
    size = file.seek(0, 2)
    file.seek(max(0, size - END.size - LONGEST_COMMENT - END64.size - END64_LOCATOR_BYTES))
    tail = file.read()
    at = tail.rfind(END_MAGIC)
    if at < 0 or len(tail) - at < END.size:
        if start == b"PK\x03\x04":
            raise broken(path, "it is cut: the list that ends a zip is not there")
        raise UsageError(f"{path}: expected a zip, found a file that begins with {start!r}: name it as what it is")
    _, _, _, _, count, list_bytes, _, _ = END.unpack_from(tail, at)
    at64 = at - END64_LOCATOR_BYTES - END64.size
    if at64 >= 0 and tail.startswith(END64_MAGIC, at64):
        fields = END64.unpack_from(tail, at64)
        count, list_bytes = fields[7], fields[8]
    return count, list_bytes


def _members(path: Path, infos: list[zipfile.ZipInfo]) -> list[ArchiveMember]:
    """The listed members. Raises UsageError if the list cannot be true, or members are encrypted."""
    refuse_bomb(path, path.stat().st_size, sum(info.file_size for info in infos))
    _refuse_overlap(path, infos)
    for info in infos:
        if info.flag_bits & ENCRYPTED:
            raise UsageError(
                f"{path}: expected an archive without a password, found {info.filename!r} encrypted: "
                "unpack it and give the folder instead"
            )
    unsaid = [index for index, info in enumerate(infos) if not info.flag_bits & UTF8]
    names = [info.orig_filename for info in infos]
    for index, name in zip(unsaid, decode_names([names[index].encode("cp437") for index in unsaid], "cp437"), strict=True):
        names[index] = name
    return [
        ArchiveMember(name, info.file_size, info.CRC, _kind(info, name))
        for name, info in zip((name.replace("\\", "/") for name in names), infos, strict=True)
    ]


def _refuse_overlap(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share packed bytes: they make bombs of any size."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise UsageError(
                f"{path}: refused: {info.filename!r} is packed in the same bytes as another member, as in bombs"
            )
        end = info.header_offset + LOCAL_HEADER_BYTES + info.compress_size


def _kind(info: zipfile.ZipInfo, name: str) -> MemberKind:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode == stat.S_IFLNK or info.external_attr & REPARSE_POINT:
        return "link"
    if name.endswith("/") or mode == stat.S_IFDIR:
        return "directory"
    return "file" if mode in (0, stat.S_IFREG) else "other"
