"""Cached hashes of a run's model files, in its directory: they save a thousand workers from reading 1 GB each.

The submitting command reads the files once; workers look the hash up by path, size and modification time. The cache only
saves time: if it is invalid, hashes are computed, and a process that cannot write it works without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec

from audio_tokenizers.shared.file_hashes import FileVersion, HashMemory, hashes_from
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically

__all__ = ["ModelHashes", "model_hashes_path"]

SETTLED_SECONDS = 10
"""A file that changed more recently may change again with the same timestamp: some clocks tick in seconds."""
MOST_ENTRIES = 32

Key = tuple[tuple[str, int, int], ...]


class _Entry(msgspec.Struct, frozen=True):
    files: Key
    """(path, size, mtime_ns) of each."""
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def model_hashes_path(output_dir: Path) -> Path:
    """The path of the cache in a run directory."""
    return output_dir / ".run" / "model_hashes.json"


class ModelHashes(HashMemory):
    """The hashes in a run's cache, and those computed by this process."""

    def __init__(self, output_dir: Path, ops: FileOps | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._path = model_hashes_path(output_dir)
        self._ops = ops or FileOps()
        self._clock = clock
        self._stored: dict[Key, str] | None = None
        self._new: dict[Key, str] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within this block, hashing a file looks here first."""
        with hashes_from(self):
            yield

    def find(self, files: tuple[FileVersion, ...]) -> str | None:
        """The hash of exactly these versions; None if one is so recent that a later version could look the same."""
        known = super().find(files)
        if known is not None or not self._settled(files):
            return known
        if self._stored is None:
            self._stored = self._read()
        return self._stored.get(_key(files))

    def keep(self, files: tuple[FileVersion, ...], sha256: str) -> None:
        """Remember a hash; `save` writes it unless the files are too recent."""
        super().keep(files, sha256)
        if self._settled(files):
            self._new[_key(files)] = sha256

    def save(self) -> None:
        """Add the hashes computed by this process to the file. Fails silently."""
        if not self._new:
            return
        newest = list({**self._read(), **self._new}.items())[-MOST_ENTRIES:]
        with suppress(OSError):
            write_atomically(self._ops, self._path, msgspec.json.encode([_Entry(*entry) for entry in newest]))
            self._new.clear()

    def _read(self) -> dict[Key, str]:
        try:
            entries = decode_json(self._path.read_bytes(), list[_Entry])
        except (OSError, msgspec.DecodeError):
            return {}
        return {entry.files: entry.sha256 for entry in entries}

    def _settled(self, files: Sequence[FileVersion]) -> bool:
        return all(self._clock() - file.mtime_ns / 1e9 > SETTLED_SECONDS for file in files)


def _key(files: Sequence[FileVersion]) -> Key:
    return tuple((os.fsencode(file.path).decode("utf-8", "backslashreplace"), file.size, file.mtime_ns) for file in files)
