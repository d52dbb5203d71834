"""Rows of tables by key, outside of memory: a table may have tens of GB, and one row is wanted at a time."""

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
"""Bytes; what is more lies in an unnamed file."""
HEAD = struct.Struct("<qI")
"""Where the key's row before this one begins, or -1; bytes of this one."""


class RowStore:
    """What was added to each key, in that order. In memory are the keys, and where the last rows begin. For many threads."""

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
        """The rows of a key; none if there are none."""
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
        """The rows of a key, which then has none."""
        rows = self.get(key)
        self._last.pop(key, None)
        return rows

    def __iter__(self) -> Iterator[str]:
        """The keys that have rows, in the order in which they came."""
        return iter(self._last)
