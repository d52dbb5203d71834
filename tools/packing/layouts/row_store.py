"""Rows of tables by key, outside of memory: a table may have tens of GB, and one row is needed at a time."""

from __future__ import annotations

import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError

__all__ = ["ROWS_IN_MEMORY", "RowStore"]

ROWS_IN_MEMORY = 64 << 20
"""Bytes; the rest goes to an unnamed file."""
HEAD = struct.Struct("<qI")
"""(offset of the key's previous row, or -1; bytes of this row)."""


class RowStore:
    """The rows of each key, in order of insertion. Keys and offsets are in memory. Thread-safe."""

    def __init__(self, scratch: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(ROWS_IN_MEMORY, dir=str(scratch))  # noqa: SIM115 (closed by the next line)
        self._scratch = scratch
        weakref.finalize(self, self._file.close)
        self._last: dict[str, int] = {}
        self._end = 0
        self._at_end = True
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._last

    def __len__(self) -> int:
        return len(self._last)

    def add(self, key: str, row: bytes) -> None:
        """Add a row to those of a key. Raises InfrastructureError if the disk is full."""
        with self._lock:
            try:
                if not self._at_end:
                    self._file.seek(self._end)
                    self._at_end = True
                self._file.write(HEAD.pack(self._last.get(key, -1), len(row)))
                self._file.write(row)
            except OSError as error:
                raise InfrastructureError(
                    f"{self._scratch}: the rows of tables cannot be kept there: {error.strerror or error}; run the same "
                    "command again when they can"
                ) from error
            self._last[key] = self._end
            self._end += HEAD.size + len(row)

    def get(self, key: str) -> list[bytes]:
        """The rows of a key; empty if it has none."""
        rows: list[bytes] = []
        with self._lock:
            self._at_end = False
            at = self._last.get(key, -1)
            while at >= 0:
                self._file.seek(at)
                at, size = HEAD.unpack(self._file.read(HEAD.size))
                rows.append(self._file.read(size))
        rows.reverse()
        return rows

    def take(self, key: str) -> list[bytes]:
        """Remove and return the rows of a key."""
        rows = self.get(key)
        self._last.pop(key, None)
        return rows

    def __iter__(self) -> Iterator[str]:
        """The keys that have rows, in order of insertion."""
        return iter(self._last)
