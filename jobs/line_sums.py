"""Checksums of a partial's lines, in a small file per attempt that grows with the lines.

One entry per line: the number of bytes up to its end, and the first half of the SHA-256 over all of them. Damage anywhere is
detected, and all lines before it remain usable. An entry is written, and made durable, before its line ends: no line exists
without its sum.

A takeover compares the partial with the sums of every attempt it finds: the partial may come from the last attempt, or from
the one before if a worker died in between. Lines without sums, as in partials of older versions, are judged by their content
(`good_lines`): redoing them would certainly cost hours, and damage is rare.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from jobs.fileops import FileOps

__all__ = ["DAMAGED", "LineSum", "SumFile", "SumsCheck", "line_sum", "read_sums", "sum_entry"]

LineSum = tuple[int, str]
"""Bytes up to the end of a line, and the start of the SHA-256 over them, in hexadecimal."""
SUM_DIGITS = 32
DAMAGED: LineSum = (-1, "")
"""Matches no line."""


class Digest(Protocol):
    """A hash object of hashlib."""

    def hexdigest(self) -> str:
        """Digest of all bytes so far."""
        ...


def line_sum(size: int, digest: Digest) -> LineSum:
    """The entry of a line that ends after `size` bytes with this `digest`."""
    return size, digest.hexdigest()[:SUM_DIGITS]


def sum_entry(found: LineSum) -> bytes:
    """The entry as a line of the file."""
    return b"%d %s\n" % (found[0], found[1].encode())


class SumFile:
    """The sums of a single attempt, which alone writes them."""

    def __init__(self, path: Path, ops: FileOps) -> None:
        self._ops = ops
        self._fd = ops.create(path)

    def add(self, found: LineSum) -> None:
        """Append the entry of a line that is about to end."""
        self._ops.write(self._fd, sum_entry(found))

    def sync(self) -> None:
        """Make all entries so far durable."""
        self._ops.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_sums(path: Path) -> list[LineSum]:
    """The sums in a file that may not exist. A damaged entry matches nothing; a truncated one is dropped."""
    sums: list[LineSum] = []
    with suppress(FileNotFoundError):
        for entry in path.read_bytes().split(b"\n")[:-1]:
            found = re.fullmatch(rb"(\d{1,18}) ([0-9a-f]{%d})" % SUM_DIGITS, entry)
            if found is None:
                return [*sums, DAMAGED]
            sums.append((int(found[1]), found[2].decode()))
    return sums


class SumsCheck:
    """Compares the lines of one file, in order, with its available sums."""

    def __init__(self, sums: Iterable[Sequence[LineSum]] = ()) -> None:
        self._agreeing = list(sums)
        """The sums that have not contradicted a line so far."""
        self._sha = hashlib.sha256()
        self._size = 0
        self.lines = 0
        """Lines that were not contradicted."""
        self.contradicted = False

    def passes(self, line: bytes) -> bool | None:
        """Whether the next line, with its newline, is as written; None if no sum covers it."""
        self._sha.update(line)
        self._size += len(line)
        found = self.last
        speaking = [sums for sums in self._agreeing if len(sums) > self.lines]
        if speaking:
            self._agreeing = [sums for sums in speaking if sums[self.lines] == found]
            if not self._agreeing:
                self.contradicted = True
                return False
        self.lines += 1
        return True if speaking else None

    @property
    def last(self) -> LineSum:
        """The sum of the latest line."""
        return line_sum(self._size, self._sha)

    @property
    def sha256(self) -> str:
        """SHA-256 of all lines so far."""
        return self._sha.hexdigest()
