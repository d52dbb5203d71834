"""Books: the tables of one data set that together say something of many audio files, and what they say of each.

A family of layouts (speech_corpora.py, long_recordings.py, lhotse.py beside this) knows its books by the names of files.
Whether the tables are what their names promise shows when they are read; one that is not is left out, and named.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.foreign_json import non_finite_numbers
from jobs.sidecars import FAULTS_KEY, LARGEST_SIDECAR
from jobs.text_rules import TEXT_KEYS, TextRules, take_language, take_text
from tools.packing.layouts.row_store import RowStore
from tools.packing.layouts.table_lines import OpenTable, TableDecoder, representable
from tools.packing.pairs import LeftOut

__all__ = [
    "Annotated",
    "Book",
    "BookRows",
    "Line",
    "OtherKindError",
    "Reading",
    "Shelf",
    "said_of",
]

LARGEST_ROW = LARGEST_SIDECAR - (64 << 10)
"""Bytes: what else stands in a sidecar has room beside it."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """What the texts say of one item."""

    text: str | None = None
    text_name: str | None = None
    """The sidecar that gave the text."""
    language: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether there is no text, neither of the whole nor of parts."""
        parts = (self.metadata or {}).get("segments")
        return not (self.text or "").strip() and not (isinstance(parts, list) and parts)


class OtherKindError(Exception):
    """A table is not what its name promised; the message says what was expected and found."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a table says of one audio file."""

    key: str
    """The audio's stem in the tree; its name without folder and extension in a book that is `by_name`."""
    said: Annotated | LeftOut
    where: str
    """For messages."""
    repeats: bool = False
    """A table of all, where another one of some has perhaps said the same: no duplicate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a book is read with."""

    open_table: OpenTable
    scratch: Path
    stems: Collection[str]
    """Of all audio in the tree, excluded or not."""
    root: str | None = None
    """The folder that the tree is, if it is one, for tables that name absolute paths."""
    decoder: TableDecoder | None = None
    """Of all tables; without it each table tells its own encoding."""
    keys: tuple[str, ...] = TEXT_KEYS
    """Under which the text may stand, in tables with names of columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """One or more tables with rows of audio at or below a folder."""

    layout: str
    """For messages."""
    tables: tuple[str, ...]
    scope: str
    """The folder; nothing for the whole tree. A LibriSpeech chapter: what the names of its files begin with."""
    read: Callable[[Book, Reading], Iterator[Line | LeftOut]] = field(repr=False)
    """Gives the lines and what is wrong with some. Raises OtherKindError before the first, and UsageError."""
    by_name: bool = False


class BookRows:
    """The rows of one book that has been read."""

    def __init__(self, book: Book, reading: Reading) -> None:
        self.book = book
        self.left_out: list[LeftOut] = []
        """Lines without audio, that name an audio again, or that cannot be read; the tables, if they are of another kind."""
        self._rows = RowStore(reading.scratch)
        known: Collection[str] = reading.stems
        if book.by_name:
            below = f"{book.scope}/" if book.scope else ""
            known = {stem.rpartition("/")[2] for stem in reading.stems if stem.startswith(below)}
        try:
            for line in book.read(book, reading):
                if isinstance(line, LeftOut):
                    self.left_out.append(line)
                else:
                    self._add(line, known)
        except OtherKindError as problem:
            self.left_out = [LeftOut("unreadable_text", name, str(problem)) for name in book.tables]
            self._rows = RowStore(reading.scratch)

    def _add(self, line: Line, known: Collection[str]) -> None:
        if line.key not in known and not line.key.isascii():  # file systems compose letters in two ways
            composed = (unicodedata.normalize(form, line.key) for form in ("NFC", "NFD"))
            line = replace(line, key=next((key for key in composed if key in known), line.key))
        if line.key in self._rows:
            if not line.repeats:
                self.left_out.append(LeftOut("duplicate", line.key, f"{line.where}: an earlier line is taken"))
        elif line.key not in known:
            self.left_out.append(LeftOut("text_without_audio", line.key, line.where))
        else:
            self._rows.add(line.key, _encode(line))

    def __len__(self) -> int:
        return len(self._rows)

    def said(self, stem: str) -> Annotated | LeftOut | None:
        """What the book says of an audio file; None if it has no line for it."""
        rows = self._rows.get(self._key(stem))
        return _decode(rows[0]) if rows else None

    def __contains__(self, stem: str) -> bool:
        return self._key(stem) in self._rows

    def _key(self, stem: str) -> str:
        return stem.rpartition("/")[2] if self.book.by_name else stem


class Shelf:
    """The books of a tree, by the tables that its items name. For use in many threads."""

    def __init__(
        self,
        books: Mapping[tuple[str, ...], tuple[Book, ...]],
        stems: Collection[str],
        scratch: Path,
        rules: TextRules | None = None,
    ) -> None:
        """`books` are those that have the same tables, the nearest to the audio first; `stems` all audio of the tree."""
        self.tables = frozenset(name for names in books for name in names)
        self._books = books
        self._stems = stems
        self._scratch = scratch
        self._rules = rules or TextRules()
        self._rows: dict[Book, BookRows] = {}
        self._lock = threading.Lock()

    def read(self, open_table: OpenTable, root: str | None = None) -> list[LeftOut]:
        """Keep all tables for `said`. `root` is the folder that the tree is, if it is one.

        Gives the lines that no audio answers to, those that name an audio again, and what cannot be read. Raises UsageError,
        naming the line, if a table is damaged, or if those of two layouts have a line for one audio.
        """
        books = sorted({book for found in self._books.values() for book in found}, key=lambda book: book.tables)
        decoder = TableDecoder(open_table, sorted(self.tables), self._rules.encoding)
        left_out: list[LeftOut] = []
        for book in books:
            left_out += self._read(book, open_table, decoder, root).left_out
        if any(len(found) > 1 for found in self._books.values()):
            self._refuse_two_layouts()
        return left_out

    def _read(self, book: Book, open_table: OpenTable, decoder: TableDecoder, root: str | None = None) -> BookRows:
        with self._lock:
            if book not in self._rows:
                reading = Reading(open_table, self._scratch, self._stems, root, decoder, self._rules.keys)
                self._rows[book] = BookRows(book, reading)
            return self._rows[book]

    def _refuse_two_layouts(self) -> None:
        for several in dict.fromkeys(found for found in self._books.values() if len(found) > 1):
            rows = [self._rows[book] for book in several]
            if sum(len(one) > 0 for one in rows) > 1:
                for stem in sorted(self._stems):
                    _nearest(rows, stem)

    def said(self, tables: tuple[str, ...], stem: str, open_table: OpenTable) -> Annotated | LeftOut | None:
        """What the tables say of an audio file; None if none has a line for it. What `read` has read stays closed."""
        decoder = TableDecoder(open_table, tables, self._rules.encoding)
        rows = _nearest([self._read(book, open_table, decoder) for book in self._books[tables]], stem)
        return rows.said(stem) if rows is not None else None


def _nearest(rows: Sequence[BookRows], stem: str) -> BookRows | None:
    """Of books of one layout the first that has a line for an audio. Raises UsageError if those of two layouts have one."""
    having = [one for one in rows if stem in one]
    if not having:
        return None
    first = having[0].book
    other = next((one.book for one in having if one.book.layout != first.layout), None)
    if other is not None:
        raise UsageError(
            f"{stem}: expected one layout, found two that have a line for it: {first.layout} ({', '.join(first.tables)}) "
            f"and {other.layout} ({', '.join(other.tables)}): leave one out with --exclude"
        )
    return having[0]


def _encode(line: Line) -> bytes:
    said = line.said
    if isinstance(said, Annotated):
        if faults := non_finite_numbers(said.metadata):
            said = replace(
                said, metadata={**(said.metadata or {}), FAULTS_KEY: [f"{line.where}: {fault}" for fault in faults]}
            )
        row = msgspec.json.encode(representable([said.text, said.language, said.metadata]))
        if len(row) <= LARGEST_ROW:
            return row
        said = LeftOut("unreadable_text", line.key, f"{line.where}: takes {len(row):,} bytes, more than {LARGEST_ROW:,}")
    return msgspec.json.encode(representable(msgspec.to_builtins(said)))


def _decode(row: bytes) -> Annotated | LeftOut:
    if row.startswith(b"{"):
        return msgspec.json.decode(row, type=LeftOut)
    text, language, metadata = msgspec.json.decode(row)
    return Annotated(text, None, language, metadata)


def said_of(record: dict[str, Any], keys: Sequence[str] = TEXT_KEYS) -> Annotated:
    """What a row with names says: the text, the language, and all else as metadata, without what is empty."""
    text, language = take_text(record, keys), take_language(record)
    metadata = {key: value for key, value in record.items() if value is not None and value != ""}
    return Annotated(text, None, language or None, metadata or None)
