"""Write lines, and read them back: the valid prefix of a partial, and the lines that --retry-errors reuses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from audio_tokenizers.base import Field
from jobs.fileops import FileOps
from jobs.line_sums import SumFile, SumsCheck, line_sum
from jobs.record_fields import check_counts, values_fault
from jobs.records import ErrorRecord, Record, TokenRecord, decode_record, encode_record

__all__ = ["LineFile", "ReusableLines", "count_lines", "good_lines"]

COUNT_BYTES = 1 << 20
WRITE_BYTES = 4 << 20


def count_lines(path: Path) -> int:
    """Lines of a file that end in a newline."""
    lines = 0
    with path.open("rb") as file:
        while piece := file.read(COUNT_BYTES):
            lines += piece.count(b"\n")
    return lines


def good_lines(
    file: Iterable[bytes], fields: Sequence[Field], check: SumsCheck | None = None
) -> Iterator[tuple[bytes, Record]]:
    """The longest prefix of whole lines that are valid records: (line without its newline, record).

    A `check` means that the lines will be committed: a line without a sum must then be, byte for byte, the encoding of its
    record, and its numbers must be plausible.
    """
    for line in file:
        if not line.endswith(b"\n"):
            return
        passes = check.passes(line) if check is not None else True
        if passes is False:
            return
        try:
            record = decode_record(line[:-1])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if isinstance(record, TokenRecord) and values_fault(fields, record.values) is not None:
            return
        if passes is None and not _is_as_written(line[:-1], record, fields):
            return
        yield line[:-1], record


def _is_as_written(line: bytes, record: Record, fields: Sequence[Field]) -> bool:
    counts = not isinstance(record, TokenRecord) or check_counts(fields, record.values, record.num_samples) is None
    return counts and encode_record(record) == line


class LineFile:
    """A file written by a single attempt, line by line, with the sums of its lines in a second file."""

    def __init__(self, path: Path, sums: Path, ops: FileOps) -> None:
        self._ops = ops
        self._sha = hashlib.sha256()
        self._sums = SumFile(sums, ops)
        self._fd = -1
        self._fd = ops.create(path)
        self.size = 0
        """Bytes written."""

    def write(self, parts: Iterable[bytes]) -> None:
        """Append a line with its newline, given in parts; many parts are written in small batches."""
        held: list[bytes] = []
        size = 0
        for part in parts:
            held.append(part)
            size += len(part)
            if size >= WRITE_BYTES:
                self._put(b"".join(held))
                held, size = [], 0
        self._put(b"".join(held), ends=True)

    def _put(self, data: bytes, *, ends: bool = False) -> None:
        """Write a part of a line; before the last part, the line's sum: no complete line lacks one."""
        sha = self._sha.copy()
        sha.update(data)
        size = self.size + len(data)
        if ends:
            self._sums.add(line_sum(size, sha))
        self._ops.write(self._fd, data)
        self._sha, self.size = sha, size

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes written."""
        return self._sha.hexdigest()

    def sync(self) -> None:
        """Make all lines so far durable."""
        self._sums.sync()
        self._ops.fsync(self._fd)

    def is_at(self, path: Path) -> bool:
        """Whether `path` names this very file."""
        return os.path.samestat(os.fstat(self._fd), path.stat())

    def close(self) -> None:
        """Close the file."""
        self._sums.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ReusableLines:
    """The lines with tokens in a file that may not exist. It stays open: another worker may unlink it."""

    def __init__(self, path: Path, fields: Sequence[Field], check: SumsCheck, *, sha256: str = "") -> None:
        """`sha256`: the hash that the whole file must have; otherwise none of its lines is used."""
        self._file: BinaryIO | None = None
        self._places: dict[int, tuple[str, int, int]] = {}  # index -> clip name, offset, length
        with suppress(FileNotFoundError):
            self._file = path.open("rb")
            offset = 0
            for index, (line, record) in enumerate(good_lines(self._file, fields, check)):
                if not isinstance(record, ErrorRecord):
                    self._places[index] = (record.audio_file, offset, len(line))
                offset += len(line) + 1
        if sha256 and check.sha256 != sha256:
            self._places.clear()

    def line(self, index: int, clip_name: str) -> bytes | None:
        """The line of the clip numbered `index` (from 0), if it had tokens and this name."""
        name, offset, length = self._places.get(index, ("", 0, 0))
        if self._file is None or not length or name != clip_name:
            return None
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
