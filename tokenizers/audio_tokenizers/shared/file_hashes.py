"""SHA-256 of a model's files, remembered, so that not every process that describes a backend reads gigabytes again.

A caller that knows where a run keeps its files provides a HashStore; by default each process remembers for itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["FileVersion", "HashMemory", "HashStore", "files_sha256", "hashes_from"]


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Identifies a version of a file without reading it."""

    path: Path
    """Absolute."""
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileVersion:
        """Of the file that is there now."""
        stat = path.stat()
        return cls(path.absolute(), stat.st_size, stat.st_mtime_ns)


class HashStore(Protocol):
    """Remembers the hash of files that are read one after the other."""

    def find(self, files: tuple[FileVersion, ...]) -> str | None:
        """Their hash, or None if it is not known."""

    def keep(self, files: tuple[FileVersion, ...], sha256: str) -> None:
        """Remember it."""


class HashMemory:
    """Remembers as long as the process lives."""

    def __init__(self) -> None:
        self._known: dict[tuple[FileVersion, ...], str] = {}

    def find(self, files: tuple[FileVersion, ...]) -> str | None:
        """The hash that was kept."""
        return self._known.get(files)

    def keep(self, files: tuple[FileVersion, ...], sha256: str) -> None:
        """Remember it."""
        self._known[files] = sha256


_store: ContextVar[HashStore] = ContextVar("hash_store", default=HashMemory())  # noqa: B039 - one for the process is meant


@contextmanager
def hashes_from(store: HashStore) -> Iterator[None]:
    """Ask `store` within this block, and tell it what had to be read."""
    token = _store.set(store)
    try:
        yield
    finally:
        _store.reset(token)


def files_sha256(paths: Sequence[Path]) -> str:
    """Hex SHA-256 of the bytes of all files in order; they are read only if the store does not have these versions."""
    store = _store.get()
    files = tuple(FileVersion.of(path) for path in paths)
    known = store.find(files)
    if known is not None:
        return known
    found = _read(paths)
    if tuple(FileVersion.of(path) for path in paths) == files:  # not of a file that changed meanwhile
        store.keep(files, found)
    return found


def _read(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 20))
    for path in paths:
        with path.open("rb") as file:
            while count := file.readinto(block):
                digest.update(block[:count])
    return digest.hexdigest()
