"""Links inside a tar and the data of their targets. No link is followed out of the tar.

Links resolve as after unpacking the tar: a hard link to the last member of that name before it, a symbolic link to the last
one in the whole tar, which may come after it. The first link whose data is wanted therefore triggers one pass over all
headers. The data of a plain tar is then read in place. gzip and zstd cannot seek back: one more pass copies the data of all
links to a temporary file, up to LARGEST_COPY.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.scratch import scratch_file, scratch_trouble
from jobs.tar_format import Member, TarDamage, TarStream

__all__ = ["LinkedData", "Links"]

HEADER_READ_BYTES = 4096
"""Size of a read when mostly headers are wanted."""
COPY_BYTES = 1 << 20
LARGEST_COPY = 4 << 30
"""Bytes of data that links of a compressed tar may lead to in total."""
LONGEST_CHAIN = 40
"""Links that lead to links; Linux follows as many."""
FILE, HARD, SYMBOLIC, NO_FILE = range(4)
LONGEST_SHOWN = 300
OUTSIDE = 0
"""Stands for a path that leaves the tar, in place of a name's hash."""

_Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(slots=True)
class LinkedData:
    """The data of a link's target. Read it before the next call on the tar's links."""

    size: int
    read: Callable[[int], bytes]
    """Returns up to the given number of bytes; fewer only at the end."""


@dataclass(slots=True)
class _Table:
    """Every member of a tar, sorted by the hash of its name, then by offset: 25 bytes each."""

    names: _Column
    offsets: _Column
    kinds: _Column
    targets: _Column
    """For links, the hash of the target's name."""

    @classmethod
    def of(cls, *columns: array[int]) -> _Table:
        """Build the table from columns in tar order."""
        names, offsets, kinds, targets = (np.array(column) for column in columns)
        order = np.lexsort((offsets, names))
        return cls(names[order], offsets[order], kinds[order], targets[order])

    def end_of(self, hard: bool, target: int, offset: int) -> int | str:
        """Offset of the file that a link at `offset` leads to, or a message why there is none."""
        for _ in range(LONGEST_CHAIN):
            if target == OUTSIDE:
                return "that is outside the tar, where no link is followed"
            first, last = (int(self.names.searchsorted(np.uint64(target), side)) for side in ("left", "right"))
            if hard:
                last = first + int(self.offsets[first:last].searchsorted(np.uint64(offset)))
            if first == last:
                return f"there is no such member {'before it ' if hard else ''}in the tar"
            kind, offset = int(self.kinds[last - 1]), int(self.offsets[last - 1])
            if kind == FILE:
                return offset
            if kind == NO_FILE:
                return "that is no file"
            hard, target = kind == HARD, int(self.targets[last - 1])
        return "links lead round in a circle"


class Links:
    """The links of one tar. Nothing is read before the first `open`."""

    def __init__(
        self, open_tar: Callable[[int], TarStream], is_wanted: Callable[[Member], bool], accepts: Callable[[TarDamage], bool]
    ) -> None:
        """`open_tar` opens the tar again with the given read size; `is_wanted` says which links may be opened; `accepts`
        says which damage is tolerated.
        """
        self._open_tar = open_tar
        self._is_wanted = is_wanted
        self._accepts = accepts
        self._table: _Table | None = None
        self._damage: TarDamage | None = None
        self._wanted = array("Q")
        """For a compressed tar: sorted offsets of the files that wanted links lead to."""
        self._data: _InPlace | _Copied | None = None

    def open(self, link: Member) -> LinkedData | str:
        """The data of a link, or a message why it has none.

        Raises TarDamage if damage further on in the tar leaves the target unknown, and all errors of reading the tar.
        """
        if self._table is None:
            self._table = self._survey()
        found = self._table.end_of(link.hard, _target(link), link.offset)
        if self._damage is not None and (not link.hard or isinstance(found, str)):
            raise self._damage
        if isinstance(found, int):
            if self._data is None:
                self._data = _Copied(self._open_tar(COPY_BYTES), self._wanted)
            data = self._data.open(found)
            if isinstance(data, LinkedData):
                return data
            found = data
        shown = link.target[:LONGEST_SHOWN].decode("utf-8", "backslashreplace")
        return f"a {'hard' if link.hard else 'symbolic'} link to {shown}: {found}"

    def _survey(self) -> _Table:
        names, offsets, kinds, targets = array("Q"), array("Q"), array("B"), array("Q")
        wanted = array("Q")
        stream = self._open_tar(HEADER_READ_BYTES)
        try:
            for member in stream:
                if member.kind == "link" and self._is_wanted(member):
                    wanted.append(len(names))
                names.append(_hash(member.name))
                offsets.append(member.offset)
                kinds.append(_kind(member))
                targets.append(_target(member) if member.kind == "link" else OUTSIDE)
        except TarDamage as damage:
            if not self._accepts(damage):
                self._damage = damage
        except BaseException:
            stream.close()
            raise
        table = _Table.of(names, offsets, kinds, targets)
        if stream.is_plain:
            self._data = _InPlace(stream)
            return table
        stream.close()
        ends = {table.end_of(kinds[index] == HARD, targets[index], offsets[index]) for index in wanted}
        self._wanted.extend(sorted(end for end in ends if isinstance(end, int)))
        return table

    def close(self) -> None:
        """Close the tar, or the copy of its data."""
        if self._data is not None:
            self._data.close()


class _InPlace:
    """The files of a plain tar, read in place."""

    def __init__(self, stream: TarStream) -> None:
        self._stream = stream
        self.close = stream.close

    def open(self, offset: int) -> LinkedData | str:
        """The file that begins at `offset`."""
        self._stream.seek(offset)
        return _opened(next(iter(self._stream), None), offset, self._stream)


class _Copied:
    """Files of a compressed tar, in a temporary file."""

    def __init__(self, stream: TarStream, wanted: array[int]) -> None:
        """Copy the files at the sorted offsets `wanted`."""
        self._places: dict[int, tuple[int, int] | str] = {}
        """Offset in the tar -> (offset of the copy, size), or why there is no copy."""
        self._end = 0
        with closing(stream):
            self._file = scratch_file()
            self.close = self._file.close
            try:
                self._copy_all(stream, wanted)
            except BaseException:
                with suppress(OSError):  # close flushes its buffer again
                    self._file.close()
                raise

    def _copy_all(self, stream: TarStream, wanted: array[int]) -> None:
        left = iter(wanted)
        sought = next(left, None)
        for member in stream:
            if sought is None:
                break
            if member.offset == sought:
                self._places[sought] = self._copy(_opened(member, sought, stream))
                sought = next(left, None)
        with scratch_trouble():
            self._file.flush()

    def _copy(self, data: LinkedData | str) -> tuple[int, int] | str:
        if isinstance(data, str):
            return data
        if self._end + data.size > LARGEST_COPY:
            return (
                f"the links of a compressed tar may lead to {LARGEST_COPY:,} bytes of data together, and here is more: pack "
                "it again as a plain tar"
            )
        begin = self._end
        while piece := data.read(COPY_BYTES):
            with scratch_trouble():
                self._file.write(piece)
            self._end += len(piece)
        return begin, data.size

    def open(self, offset: int) -> LinkedData | str:
        """The file that begins at `offset`."""
        place = self._places[offset]
        if isinstance(place, str):
            return place
        left = place[1]

        def read(size: int) -> bytes:
            nonlocal left
            with scratch_trouble():
                data = self._file.read(min(size, left))
            left -= len(data)
            return data

        with scratch_trouble():
            self._file.seek(place[0])
        return LinkedData(left, read)


def _opened(member: Member | None, offset: int, stream: TarStream) -> LinkedData | str:
    if member is None or member.kind not in ("file", "sparse"):
        raise TarDamage("bad_header", offset, f"the member at byte {offset:,} has changed since it was first read")
    return f"that is a sparse file, and {member.fault}" if member.fault else LinkedData(member.size, stream.read)


def _kind(member: Member) -> int:
    if member.kind == "link":
        return HARD if member.hard else SYMBOLIC
    return FILE if member.kind in ("file", "sparse") else NO_FILE


def _target(link: Member) -> int:
    """The hash of a link's target."""
    if link.hard or link.target.startswith(b"/"):
        return _hash(link.target)
    folder, slash, _ = link.name.rpartition(b"/")
    return _hash(folder + slash + link.target)


def _hash(path: bytes) -> int:
    """Hash a member's normalized name: `./a//b`, `a/c/../b` and `a/b` are equal. OUTSIDE for a path that leaves the tar.

    An absolute path matches only members stored with an absolute path.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                return OUTSIDE
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    root = b"/" if path.startswith(b"/") else b""
    return int.from_bytes(hashlib.blake2b(root + b"/".join(parts), digest_size=8).digest(), "little") or 1
