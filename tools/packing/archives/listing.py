"""An archive's list, and the plan that follows from it before any data is read."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from isal.isal_zlib import crc32

from audio_tokenizers.errors import UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.sidecars import LARGEST_SIDECAR
from tools.packing.archives.safety import refuse_names, require_space
from tools.packing.layouts.tree import Layout, Planned, plan_tree
from tools.packing.pairs import LeftOut, Pair, SourceOptions

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "TABLES_IN_MEMORY",
    "ArchiveMember",
    "Listing",
    "MemberData",
    "Tables",
    "broken",
    "list_members",
    "open_nameless",
    "pair_of",
    "read_text",
]

READ_BYTES = 1 << 20
TABLES_IN_MEMORY = 64 << 20
"""Bytes of tables; the rest goes to a file."""

MemberKind = Literal["file", "directory", "link", "sparse", "other"]


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One entry of an archive's list."""

    name: str
    """With `/` between its parts, whatever the archive uses."""
    size: int
    """Bytes, unpacked."""
    crc: int | None
    """CRC-32 of its data, if the archive has one."""
    kind: MemberKind = "file"


@dataclass(frozen=True, slots=True)
class Listing:
    """An archive's members, and what is packed of them."""

    members: Sequence[ArchiveMember]
    positions: Mapping[str, int]
    """Name -> position of the member; the first, if several have that name."""
    planned: tuple[Planned, ...]
    layout: Layout
    left_out: tuple[LeftOut, ...]
    found: Counter[str]
    fingerprint: str
    """Hash of the list, and of the pairing of subtitles."""
    bytes_total: int
    """Bytes of the audio of `planned`."""

    def size(self, name: str) -> int:
        """Bytes, unpacked."""
        return self.members[self.positions[name]].size


def list_members(path: Path, members: Sequence[ArchiveMember], options: SourceOptions) -> Listing:
    """Plan from names and kinds alone. Raises UsageError at a name that no honest archive holds.

    Links are left out and never followed. Other special files are skipped silently.
    """
    refuse_names(path, (member.name for member in members))
    files = [member.name for member in members if member.kind == "file"]
    plan = plan_tree(files, options)
    left_out = [LeftOut("link", member.name) for member in members if member.kind == "link"]
    left_out += [
        LeftOut("unreadable_audio", member.name, "a sparse file")
        for member in members
        if member.kind == "sparse" and member.name.rpartition(".")[2].lower() in AUDIO_EXTENSIONS
    ]
    positions: dict[str, int] = {}
    digest = hashlib.sha256()
    for index, member in enumerate(members):
        if member.kind == "file":
            positions.setdefault(member.name, index)
        digest.update(f"{member.name}\0{member.size}\0{member.crc}\0{member.kind}\n".encode())
    for item in plan.items:
        if item.subtitles:  # older versions made no segments of subtitles: their packs must not go on
            digest.update(f"subtitles\0{item.subtitles}\0{item.audio}\n".encode())
    return Listing(
        members,
        positions,
        plan.items,
        plan.layout,
        tuple(sorted((*plan.left_out, *left_out), key=lambda left: left.name)),
        plan.found,
        digest.hexdigest(),
        sum(members[positions[item.audio]].size for item in plan.items),
    )


def broken(path: Path, what: str) -> UsageError:
    """The error for an archive that turns out to be damaged."""
    return UsageError(
        f"{path}: broken: {what}. Get the archive again; or unpack what can be unpacked and give the folder instead"
    )


class MemberData:
    """The data of one member in a stream, checked against its listed size and CRC.

    `read` returns up to the requested number of bytes; an empty result is the end of the data, here an error.
    """

    def __init__(self, path: Path, member: ArchiveMember, read: Callable[[int], bytes]) -> None:
        self.member = member
        self._path = path
        self._read = read
        self._left = member.size
        self._crc = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end. Raises UsageError if size or CRC do not match the list."""
        wanted = min(size, self._left)
        if wanted == 0:
            return b""
        data = self._read(wanted)
        if not data:
            at = self.member.size - self._left
            raise broken(self._path, f"{self.member.name} ends after {at:,} of {self.member.size:,} bytes")
        self._crc = crc32(data, self._crc)
        self._left -= len(data)
        if self._left == 0 and self.member.crc is not None and self._crc != self.member.crc:
            raise broken(
                self._path, f"the CRC of {self.member.name} is {self._crc:08X}, not {self.member.crc:08X} as listed"
            )
        return data

    def read_all(self) -> bytes:
        """The rest, in one piece."""
        first = self.read(self._left)
        if self._left == 0:
            return first
        pieces = [first]
        while data := self.read(self._left):
            pieces.append(data)
        return b"".join(pieces)

    def copy_to(self, file: BinaryIO) -> None:
        """Write the rest to `file`, in small pieces."""
        while data := self.read(READ_BYTES):
            file.write(data)

    def skip(self) -> None:
        """Skip the rest, but check it."""
        while self.read(READ_BYTES):
            pass


class Tables:
    """The tables of an archive, kept because each may be read more than once: in memory, or in an unnamed file."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._path = path
        self._scratch = scratch
        self._held: dict[str, bytes | tuple[int, int]] = {}
        """Content, or (offset in the file, size)."""
        self._in_memory = self._end = 0
        self._file: BinaryIO | None = None

    def keep(self, name: str, data: MemberData | bytes) -> None:
        """Keep a table. Raises InfrastructureError if there is no room for it."""
        if isinstance(data, bytes):
            self._held[name] = data
        elif data.member.size <= TABLES_IN_MEMORY - self._in_memory:
            self._in_memory += data.member.size
            self._held[name] = data.read_all()
        else:
            require_space(self._path, self._scratch, data.member.size)
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 (closed by `close`)
            self._held[name] = (self._end, data.member.size)
            data.copy_to(self._file)
            self._end += data.member.size

    def open(self, name: str) -> BinaryIO:
        """A table, from its beginning."""
        held = self._held[name]
        if isinstance(held, bytes):
            return io.BytesIO(held)
        assert self._file is not None
        self._file.flush()
        return cast("BinaryIO", io.BufferedReader(_Slice(self._file.fileno(), *held), READ_BYTES))

    def close(self) -> None:
        """Free the file."""
        if self._file is not None:
            self._file.close()


class _Slice(io.RawIOBase):
    """A part of a file that others read at the same time."""

    def __init__(self, file: int, begin: int, size: int) -> None:
        self._file = file
        self._begin = self._at = begin
        self._end = begin + size

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._begin

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self._file, min(len(view), self._end - self._at), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_nameless(path: Path) -> BinaryIO:
    """Open and unlink a file: nothing is left of it once it is closed, however the command ends."""
    file = path.open("rb")
    path.unlink()
    return file


def read_text(data: MemberData) -> bytes:
    """A sidecar. One that is too large is cut just above the limit, and still counts as too large."""
    return data.read_all() if data.member.size <= LARGEST_SIDECAR else _head(data, LARGEST_SIDECAR + 1)


def _head(data: MemberData, size: int) -> bytes:
    pieces = []
    while size and (piece := data.read(size)):
        pieces.append(piece)
        size -= len(piece)
    data.skip()
    return b"".join(pieces)


def pair_of(
    planned: Planned, layout: Layout, contents: Mapping[str, bytes], audio: Callable[[], bytes | BinaryIO], size: int
) -> Pair | LeftOut:
    """The pair of one item. `audio` is called only if the item is not left out because of its texts."""
    said = layout.annotate(planned, contents)
    if isinstance(said, LeftOut):
        return said
    return Pair(
        id=planned.id,
        audio_name=planned.audio,
        audio=audio(),
        size=size,
        text=said.text,
        text_name=said.text_name,
        language=said.language,
        metadata=said.metadata,
    )
