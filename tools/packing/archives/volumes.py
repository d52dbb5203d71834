"""Archives in volumes: `x.7z.001`, `x.7z.002` and so on, which concatenated are the archive."""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from audio_tokenizers.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["find_volumes", "first_volumes", "is_volume", "open_volumes", "refuse_missing_end"]

VOLUME = re.compile(r"(?P<archive>.+\.7z)\.(?P<number>[0-9]{3,})", re.IGNORECASE)
SIGNATURE = b"7z\xbc\xaf\x27\x1c"
START = 32
"""Header bytes of a 7z, which tell where its list, and so the archive, ends."""
BUFFER_BYTES = 1 << 20


def is_volume(name: str) -> bool:
    """Whether a file of this name, without its folder, is a volume."""
    return VOLUME.fullmatch(name) is not None


def first_volumes(names: Iterable[str]) -> list[str]:
    """The first existing volume of each archive among a folder's files."""
    first: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        if found := VOLUME.fullmatch(name):
            first.setdefault(found["archive"], name)
    return sorted(first.values())


def find_volumes(path: Path) -> list[Path]:
    """All volumes of an archive, in order, given the first existing one. Raises UsageError that names a missing one."""
    given = VOLUME.fullmatch(path.name)
    if given is None:
        raise UsageError(f"{path}: expected the first volume of a 7z, such as x.7z.001")
    archive = given["archive"]
    found: dict[int, Path] = {}
    for other in path.parent.iterdir():
        match = VOLUME.fullmatch(other.name)
        if match is not None and match["archive"] == archive:
            found[int(match["number"])] = other
    missing = max(found) - len(found)
    if missing or 0 in found:
        first = next(number for number in itertools.count(1) if number not in found)
        more = f" and {missing - 1:,} more are" if missing > 1 else " is"
        name = f"{archive}.{first:0{len(given['number'])}}"
        raise UsageError(f"{path.parent}: {name}{more} missing beside {len(found):,} volumes: put all into one folder")
    if int(given["number"]) > 1:
        raise UsageError(f"{path}: expected the first volume, {found[1].name}, or the folder that they are in")
    return [found[number] for number in sorted(found)]


def refuse_missing_end(volumes: Sequence[Path]) -> None:
    """Raise UsageError if the first volume announces more bytes than all have: the last ones are missing."""
    with volumes[0].open("rb") as file:
        start = file.read(START)
    size = sum(volume.stat().st_size for volume in volumes)
    if len(start) < START or not start.startswith(SIGNATURE):
        return
    offset, length = struct.unpack_from("<QQ", start, 12)
    if START + offset + length > size:
        archive, _, number = volumes[-1].name.rpartition(".")
        after = f"{archive}.{int(number) + 1:0{len(number)}}"
        raise UsageError(
            f"{volumes[0]}: {after} is missing, or a volume is cut: expected {START + offset + length:,} bytes, "
            f"found {size:,} in {len(volumes):,} volumes: get what is missing and put it beside the others"
        )


def open_volumes(volumes: Sequence[Path]) -> BinaryIO:
    """The archive as one file, to read and seek in. Raises OSError."""
    return cast("BinaryIO", io.BufferedReader(_Joined(volumes), BUFFER_BYTES))


class _Joined(io.RawIOBase):
    """Files, concatenated."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stack = ExitStack()
        self._files: list[tuple[int, int, BinaryIO]] = []
        """(begin, end, file)"""
        self._at = self._size = 0
        try:
            for path in paths:
                file = self._stack.enter_context(path.open("rb", buffering=0))
                end = self._size + os.fstat(file.fileno()).st_size
                self._files.append((self._size, end, cast("BinaryIO", file)))
                self._size = end
        except BaseException:
            self._stack.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        for begin, end, file in self._files:
            if begin <= self._at < end:
                file.seek(self._at - begin)
                data = file.read(min(len(view), end - self._at))
                view[: len(data)] = data
                self._at += len(data)
                return len(data)
        return 0

    def close(self) -> None:
        self._stack.close()
        super().close()
