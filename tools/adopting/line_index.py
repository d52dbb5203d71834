"""Where the lines of an old output are, by clip, outside of memory: an output may have millions of lines."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError

__all__ = ["Key", "LineIndex", "Place", "key_of"]

Key = bytes
"""Stands for a clip's name, or its text, which may be long."""
KEY_BYTES = 16
SCHEMA = """
CREATE TABLE lines
    (id INTEGER PRIMARY KEY, tar INTEGER, key BLOB, file INTEGER, number INTEGER, start INTEGER, size INTEGER);
CREATE TABLE files (number INTEGER PRIMARY KEY, path BLOB);
CREATE TABLE clips (key BLOB);
CREATE TABLE used (id INTEGER);
"""
INDEXES = "CREATE INDEX lines_by_key ON lines (key); CREATE INDEX lines_by_tar ON lines (tar);"


def key_of(tar: int | None, name: str) -> Key:
    """The key of a clip of the tar with this number in the list; None: of any tar."""
    text = f"{'' if tar is None else tar}\0{name}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line is."""

    id: int
    file: int
    """Number of the file."""
    number: int
    """Of the line in it, from 1."""
    start: int
    size: int


class LineIndex:
    """A database in a file of its own. One process writes it; then many may read it."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Raises InfrastructureError, as all methods."""
        self.path = path
        with self._trouble():
            if create:
                self._base = sqlite3.connect(path)
                self._base.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA)
            else:
                self._base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InfrastructureError(
                f"{self.path}: the places of lines cannot be kept there: {error}; make room, or set TMPDIR to another folder"
            ) from error

    def close(self) -> None:
        """Close it."""
        self._base.close()

    def add_lines(self, lines: Iterable[tuple[int | None, Key, int, int, int, int]]) -> None:
        """(number of the tar, key, number of the file, number of the line, start, size) of each line."""
        with self._trouble():
            self._base.executemany("INSERT INTO lines VALUES (NULL, ?, ?, ?, ?, ?, ?)", lines)

    def add_file(self, number: int, path: Path) -> None:
        """Where the plain bytes of a file are."""
        with self._trouble():
            self._base.execute("INSERT INTO files VALUES (?, ?)", (number, os.fsencode(path)))

    def file(self, number: int) -> Path:
        """The file with this number."""
        with self._trouble():
            (path,) = self._base.execute("SELECT path FROM files WHERE number = ?", (number,)).fetchone()
            return Path(os.fsdecode(path))

    def add_clips(self, keys: Iterable[Key]) -> None:
        """Keys of the clips of one tar, once for each clip."""
        with self._trouble():
            self._base.executemany("INSERT INTO clips VALUES (?)", ((key,) for key in keys))

    def add_used(self, ids: Iterable[int]) -> None:
        """Lines that were looked at for a clip."""
        with self._trouble():
            self._base.executemany("INSERT INTO used VALUES (?)", ((each,) for each in ids))

    def lines_are_complete(self) -> None:
        """All lines are there."""
        with self._trouble():
            self._base.executescript(INDEXES)
            self._base.commit()

    def clips_are_complete(self) -> None:
        """All clips are there."""
        with self._trouble():
            self._base.executescript("CREATE INDEX clips_by_key ON clips (key);")
            self._base.commit()

    def tars(self) -> set[int]:
        """Numbers of the tars that have lines."""
        with self._trouble():
            return {tar for (tar,) in self._base.execute("SELECT DISTINCT tar FROM lines WHERE tar IS NOT NULL")}

    def places(self, key: Key) -> list[Place]:
        """The lines with this key, in the order in which they were added."""
        with self._trouble():
            rows = self._base.execute("SELECT id, file, number, start, size FROM lines WHERE key = ? ORDER BY id", (key,))
            return [Place(*row) for row in rows]

    def clips(self, key: Key) -> int:
        """How many clips have this key."""
        with self._trouble():
            (count,) = self._base.execute("SELECT COUNT(*) FROM clips WHERE key = ?", (key,)).fetchone()
            return int(count)

    def use_lines_of(self, tar: int) -> None:
        """All lines of this tar were looked at."""
        with self._trouble():
            self._base.execute("INSERT INTO used SELECT id FROM lines WHERE tar = ?", (tar,))

    def unused(self) -> tuple[int, Place | None]:
        """(number of lines that no clip has used, the first of them)."""
        rest = "FROM lines WHERE id NOT IN (SELECT id FROM used)"
        with self._trouble():
            (count,) = self._base.execute(f"SELECT COUNT(*) {rest}").fetchone()
            row = self._base.execute(f"SELECT id, file, number, start, size {rest} ORDER BY id LIMIT 1").fetchone()
            return int(count), Place(*row) if row else None
