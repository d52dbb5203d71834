"""Books: tables of one data set that together annotate many audio files, and their annotations of each.

A family of layouts (speech_corpora.py, long_recordings.py, lhotse.py beside this) recognizes its books by file names. A
table that turns out not to be what its name promises is left out, and named.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.foreign_json import non_finite_numbers
from jobs.sidecars import FAULTS_KEY, LARGEST_SIDECAR
from jobs.text_rules import TEXT_KEYS, TextRules, take_language, take_text
from tools.packing.layouts.row_store import RowStore
from tools.packing.layouts.table_lines import OpenTable, TableDecoder, json_lines, representable
from tools.packing.pairs import LeftOut

__all__ = [
    "Annotated",
    "Book",
    "BookRows",
    "Line",
    "OtherKindError",
    "Reading",
    "Shelf",
    "lines_of_kind",
    "objects_of_kind",
    "said_of",
]

_Read = TypeVar("_Read")
LARGEST_ROW = LARGEST_SIDECAR - (64 << 10)
"""Bytes; leaves room for the rest of a sidecar."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """The annotations of one item."""

    text: str | None = None
    text_name: str | None = None
    """The sidecar with the text."""
    language: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether there is no text, neither for the whole nor for segments."""
        parts = (self.metadata or {}).get("segments")
        return not (self.text or "").strip() and not (isinstance(parts, list) and parts)


class OtherKindError(Exception):
    """A table is not what its name promised; the message says what was expected and found."""


def lines_of_kind(
    lines: Iterable[tuple[str, _Read | LeftOut | OtherKindError]], other_kind: str = ""
) -> Iterator[tuple[str, _Read | LeftOut]]:
    """The lines of a table that has to show its kind, bad lines last.

    Each comes with its place for messages: what was read, LeftOut for a line that cannot be read, OtherKindError for one of
    another kind. The first line that can be read decides: raises its OtherKindError. If none can be read, raises
    OtherKindError with `other_kind`, or else with the first fault.
    """
    recognised = False
    bad: list[LeftOut] = []
    for where, found in lines:
        if isinstance(found, LeftOut):
            bad.append(found)
        elif not isinstance(found, OtherKindError):
            recognised = True
            yield where, found
        elif recognised:
            bad.append(LeftOut("unreadable_text", where, str(found)))
        else:
            raise found
    if bad and not recognised:
        raise OtherKindError(other_kind or bad[0].detail)
    yield from ((left.name, left) for left in bad)


def objects_of_kind(
    name: str, reading: Reading, is_of_kind: Callable[[dict[str, Any]], bool], other_kind: str
) -> Iterator[tuple[str, dict[str, Any] | LeftOut]]:
    """(place, object) of each line of a table, bad lines last. Raises OtherKindError with `other_kind` if the first object
    is not `is_of_kind`, or if there is none.
    """

    def read() -> Iterator[tuple[str, dict[str, Any] | LeftOut | OtherKindError]]:
        first = True
        for number, record in json_lines(name, reading.open_table, reading.decoder):
            where = f"line {number} of {name}"
            if isinstance(record, str):
                yield where, LeftOut("unreadable_text", where, record)
            else:
                yield where, record if not first or is_of_kind(record) else OtherKindError(other_kind)
                first = False

    return lines_of_kind(read(), other_kind)


@dataclass(frozen=True, slots=True)
class Line:
    """A table's entry for one audio file."""

    key: str
    """The audio's stem in the tree; its name without folder and extension in a book that is `by_name`."""
    said: Annotated | LeftOut
    where: str
    """For messages."""
    repeats: bool = False
    """May repeat a line of another table, which is then no duplicate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The context in which a book is read."""

    open_table: OpenTable
    scratch: Path
    stems: Collection[str]
    """Stems of all audio in the tree, excluded or not."""
    root: str | None = None
    """The tree's folder, if it is one, for tables with absolute paths."""
    decoder: TableDecoder | None = None
    """Shared by all tables; without it each table's encoding is detected by itself."""
    keys: tuple[str, ...] = TEXT_KEYS
    """Keys of the text, in tables with column names."""


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """One or more tables with rows of audio at or below a folder."""

    layout: str
    """For messages."""
    tables: tuple[str, ...]
    scope: str
    """The folder; empty for the whole tree. For a LibriSpeech chapter, the prefix of its files' names."""
    read: Callable[[Book, Reading], Iterator[Line | LeftOut]] = field(repr=False)
    """Gives lines and errors. Raises OtherKindError before the first, and UsageError."""
    by_name: bool = False


class BookRows:
    """The rows of one book that has been read."""

    def __init__(self, book: Book, reading: Reading) -> None:
        self.book = book
        self.left_out: list[LeftOut] = []
        """Lines without audio, duplicates, and unreadable lines; the tables themselves, if they are of another kind."""
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
        if line.key not in known and not line.key.isascii():  # file systems use NFC or NFD
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
        """The book's annotations of an audio file; None if it has no line for it."""
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
        """`books`: tables -> their books, the nearest to the audio first. `stems`: all audio of the tree."""
        self.tables = frozenset(name for names in books for name in names)
        self._books = books
        self._stems = stems
        self._scratch = scratch
        self._rules = rules or TextRules()
        self._rows: dict[Book, BookRows] = {}
        self._lock = threading.Lock()

    def read(self, open_table: OpenTable, root: str | None = None) -> list[LeftOut]:
        """Read all tables for `said`. `root` is the tree's folder, if it is one.

        Returns lines without audio, duplicates, and unreadable lines. Raises UsageError, naming the line, if a table is
        damaged, or if tables of two layouts have a line for one audio.
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
        """The tables' annotations of an audio file; None if none has a line for it. Does not open what `read` has read."""
        decoder = TableDecoder(open_table, tables, self._rules.encoding)
        rows = _nearest([self._read(book, open_table, decoder) for book in self._books[tables]], stem)
        return rows.said(stem) if rows is not None else None


def _nearest(rows: Sequence[BookRows], stem: str) -> BookRows | None:
    """The first book with a line for an audio. Raises UsageError if books of two layouts have one."""
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
    """The annotations in a row with names: text, language, and the rest as metadata, without empty values."""
    text, language = take_text(record, keys), take_language(record)
    metadata = {key: value for key, value in record.items() if value is not None and value != ""}
    return Annotated(text, None, language or None, metadata or None)
