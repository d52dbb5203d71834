"""Present parts of a file as one file: a link of a chain, a payload in a container, audio without the tags inside it."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import IO

__all__ = ["SpanFile"]


class SpanFile(io.RawIOBase):
    """Reads the bytes of `spans`, pairs (begin, end) of positions in `file`, one after the other, without buffering them.

    A read is short only at the end: C decoders take a short read for the end. Reading moves the position of `file`.
    """

    def __init__(self, file: IO[bytes], spans: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._file = file
        self._begins = [begin for begin, _ in spans]
        self._ends = list(accumulate(end - begin for begin, end in spans))
        self._at = 0

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek: always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Like `io.RawIOBase.seek`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek value {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Like `io.RawIOBase.tell`."""
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Like `io.RawIOBase.readinto`."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            number = bisect_right(self._ends, self._at)
            if number == len(self._ends):
                break
            inside = self._at - (self._ends[number - 1] if number else 0)
            self._file.seek(self._begins[number] + inside)
            found = self._file.read(min(len(view) - done, self._ends[number] - self._at))
            if not found:
                break
            view[done : done + len(found)] = found
            done += len(found)
            self._at += len(found)
        return done
