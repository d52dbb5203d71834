"""The files of an old output, and their lines: plain or gzip, whole or cut. Nothing is written to them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from hpc.tar_list import natural_order
from jobs.regular_files import refuse_irregular
from jobs.scratch import scratch_trouble
from jobs.spec import spec_path

__all__ = ["FoundLine", "OldFile", "find_old_files", "read_old_lines"]

PLAIN, PARTIAL, GZIPPED = ".jsonl", ".jsonl.partial", ".jsonl.gz"
KNOWN = (PLAIN, PARTIAL, GZIPPED)
LONGEST_LINE = 256 << 20
"""Bytes. A day of audio in 8 codebooks takes a third of it."""
COPY_BYTES = 1 << 20
GZIP = 31
"""zlib's word for the gzip format with its largest window."""
GZIP_BYTES = 4096
"""Read at once: what is decompressed of a damaged piece is lost."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """One file of an old output."""

    path: Path
    name: str
    """Without its suffix: for many tools the name of a tar."""


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line, or a fault in place of one."""

    number: int
    """From 1."""
    start: int
    """Its place in the plain bytes."""
    data: bytes
    """Without its newline; empty for a fault."""
    fault: str = ""


def find_old_files(old: Path) -> list[OldFile]:
    """The files with lines in a folder and those below it, in natural order, or the one file that is given.

    Raises UsageError if there is none, or if a folder is a run directory of ours, InfrastructureError if one cannot be read.
    """
    if not old.exists():
        raise UsageError(f"{old}: there is no such file or folder: expected the output of an older tool")
    if not old.is_dir():
        refuse_irregular(old, f"a file with a name that ends in {', '.join(KNOWN)}")
        if _suffix(old.name) is None:
            raise UsageError(f"{old}: expected a name that ends in {', '.join(KNOWN)}")
        return [_old_file(old)]
    paths = []
    for folder, folders, names in os.walk(old, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if spec_path(Path(folder)).exists():
            raise UsageError(
                f"{folder}: a run directory of tar2tokens: its lines need no adoption; {called('hpc.submit')} continues it"
            )
        paths += [Path(folder, name) for name in names if not name.startswith(".") and _suffix(name) is not None]
    files = [_old_file(path) for path in sorted(paths, key=lambda path: natural_order(str(path))) if path.is_file()]
    if not files:
        raise UsageError(f"{old}: expected files of an older tool, found none whose name ends in {', '.join(KNOWN)}")
    return files


def _refuse(error: OSError) -> None:
    raise InfrastructureError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _suffix(name: str) -> str | None:
    return next((suffix for suffix in KNOWN if name.endswith(suffix) and name != suffix), None)


def _old_file(path: Path) -> OldFile:
    suffix = _suffix(path.name) or ""
    return OldFile(path, path.name[: -len(suffix)])


def read_old_lines(file: OldFile, plain: Path) -> Iterator[FoundLine]:
    """The lines of a file that are not blank; the last one may be cut. `plain` gets the bytes of a gzip file.

    Raises InfrastructureError if the file cannot be read.
    """
    cut = ""
    try:
        if file.path.name.endswith(GZIPPED):
            cut = _unpack(file.path, plain)
        with (plain if file.path.name.endswith(GZIPPED) else file.path).open("rb") as lines:
            yield from _lines(lines)
    except OSError as error:
        raise InfrastructureError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    if cut:
        yield FoundLine(0, 0, b"", f"its gzip data are {cut}: the lines there are lost")


def _unpack(path: Path, plain: Path) -> str:
    """Unpack as much as can be trusted; returns how the file ends, if not properly. Several members are read as one file.

    A member that is cut is whole up to there. Of one that is damaged nothing is kept: its checksum speaks of all of it.
    """
    with path.open("rb") as packed, plain.open("wb") as unpacked:
        decoder, begun, start = zlib.decompressobj(GZIP), False, 0
        while piece := packed.read(GZIP_BYTES):
            while piece:
                begun = True
                try:
                    data = decoder.decompress(piece, COPY_BYTES)
                except zlib.error as error:
                    unpacked.truncate(start)
                    return f"damaged ({error})"
                with scratch_trouble():
                    unpacked.write(data)
                piece = decoder.unconsumed_tail
                if decoder.eof:
                    piece = decoder.unused_data.lstrip(b"\0")
                    decoder, begun, start = zlib.decompressobj(GZIP), False, unpacked.tell()
    return "cut" if begun else ""


def _lines(file: IO[bytes]) -> Iterator[FoundLine]:
    start = number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        size = len(line)
        if size == LONGEST_LINE and not line.endswith(b"\n"):
            while more := file.readline(COPY_BYTES):
                size += len(more)
                if more.endswith(b"\n"):
                    break
            yield FoundLine(number, start, b"", f"a line of {size:,} bytes")
        elif data := line.strip():
            yield FoundLine(number, start + line.index(data[:1]), data)
        start += size
