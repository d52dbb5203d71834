"""Lines of tables, read as a stream, and their values as JSON."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import posixpath
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from audio_tokenizers.errors import UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.text_encoding import AUTO, TextDecoder, wide_encoding
from tools.packing.archives.safety import SURELY_HARMLESS, refuse_bomb

__all__ = [
    "LONGEST_LINE",
    "NO_TEXT",
    "OpenTable",
    "TableDecoder",
    "csv_rows",
    "decode_object",
    "first_line",
    "json_lines",
    "representable",
    "stem_of",
    "table_lines",
    "text_lines",
    "wide_lines",
]

OpenTable = Callable[[str], BinaryIO]
"""Opens a table of the tree by its name."""

LONGEST_LINE = 64 << 20
NO_TEXT = "in no encoding that is sure: say it with --text-encoding"
"""The error of a line that `text_lines` cannot decode."""
DEEPEST = 50
"""Nesting of objects and lists; deeper values are dropped from a row. Far below the limit of the jobs."""
DECODER = json.JSONDecoder(strict=False)
LARGEST_INTEGER = 1 << 63


@contextmanager
def _opened(name: str, open_table: OpenTable) -> Iterator[BinaryIO]:
    """A table, unpacked if its name ends with `.gz`. Raises UsageError where that is damaged."""
    with open_table(name) as file:
        if not name.lower().endswith(".gz"):
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast("BinaryIO", unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UsageError(f"{name}: the gzip data is cut or damaged: {error}: copy it again from its source") from None


class TableDecoder:
    """Decodes the lines of tables, which share one encoding unless one declares or shows another."""

    def __init__(self, open_table: OpenTable, tables: Iterable[str], encoding: str = AUTO) -> None:
        """`tables`: the encoding is detected from their lines together, if it must be detected."""
        self.encoding = encoding
        self.decode = TextDecoder(encoding, partial(_foreign_lines, tuple(tables), open_table)).decode
        """Raises UnicodeDecodeError with a readable reason."""


def _foreign_lines(tables: Iterable[str], open_table: OpenTable) -> Iterator[bytes]:
    """The lines that are not UTF-8. Errors of a table are reported where it is read."""
    for name in tables:
        with suppress(UsageError):
            yield from (line for _, line in table_lines(name, open_table) if not _is_utf8(line))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _raw_lines(name: str, open_table: OpenTable, encoding: str) -> Iterator[bytes]:
    """All lines of a table with their ends. Lines in UTF-16 and UTF-32 come as UTF-8 with a BOM."""
    with _opened(name, open_table) as file:
        wide = wide_encoding(file.read(4), encoding)
    with _opened(name, open_table) as file:
        narrow = iter(partial(file.readline, LONGEST_LINE + 1), b"")
        unpacked = 0
        for number, line in enumerate(narrow if wide is None else wide_lines(name, file, wide), 1):
            unpacked += len(line)
            if unpacked > SURELY_HARMLESS and isinstance(file, gzip.GzipFile):
                refuse_bomb(Path(name), file.fileobj.tell(), unpacked)
            if len(line) > LONGEST_LINE:
                raise UsageError(
                    f"{name}: line {number}: longer than {LONGEST_LINE:,} bytes, as no table has: leave it out (--exclude)"
                )
            yield line


def wide_lines(place: str | Path, file: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Lines of UTF-16 or UTF-32, as UTF-8 with a BOM. Raises UsageError if they cannot be decoded."""
    try:
        with io.TextIOWrapper(cast("io.BufferedReader", file), encoding, newline="\n") as text:
            while line := text.readline(LONGEST_LINE + 1):
                yield codecs.BOM_UTF8 + line.encode() if line.strip() else b"\n"
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: no {encoding} text: {error.reason}: write it again if it was cut") from None


def table_lines(name: str, open_table: OpenTable, encoding: str = AUTO) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a table, without blank lines. Raises UsageError at an absurdly long line."""
    for number, line in enumerate(_raw_lines(name, open_table, encoding), 1):
        if stripped := line.strip(b"\r\n"):
            yield number, stripped


def text_lines(name: str, open_table: OpenTable, decoder: TableDecoder | None = None) -> Iterator[tuple[int, str | None]]:
    """(number, line) of a table, without blank lines; None for a line that cannot be decoded. Without `decoder` the
    encoding is detected from the table itself.
    """
    decoder = decoder or TableDecoder(open_table, (name,))
    for number, line in table_lines(name, open_table, decoder.encoding):
        try:
            yield number, decoder.decode(line)
        except UnicodeDecodeError:
            yield number, None


def first_line(name: str, open_table: OpenTable, decoder: TableDecoder | None = None) -> str:
    """The first line of a table that is not blank; empty if there is none, or if it cannot be decoded."""
    return next((line or "" for _, line in text_lines(name, open_table, decoder)), "")


class _CsvLines:
    """Lines of a table for a CSV reader, which can be put back."""

    def __init__(self, name: str, open_table: OpenTable, decoder: TableDecoder) -> None:
        self._lines = enumerate(_raw_lines(name, open_table, decoder.encoding), 1)
        self._again: deque[tuple[int, str, str]] = deque()
        self._decode = decoder.decode
        self.taken: list[tuple[int, str, str]] = []
        """(number, line, decoding error) of the current row's lines."""

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        self.taken.append(self._again.popleft() if self._again else self._decoded(*next(self._lines)))
        return self.taken[-1][1]

    def _decoded(self, number: int, line: bytes) -> tuple[int, str, str]:
        try:
            return number, self._decode(line) if line != b"\n" else "\n", ""
        except UnicodeDecodeError as error:
            return number, line.decode("latin-1"), error.reason  # keeps commas, quotes and line ends, and so the rows

    def only_first(self) -> int:
        """Reduce the current row to its first line and return its number; the other lines are read again."""
        first, *others = self.taken
        self._again.extendleft(reversed(others))
        return first[0]


def csv_rows(name: str, open_table: OpenTable, decoder: TableDecoder | None = None) -> Iterator[tuple[int, list[str] | str]]:
    """(number of its last line, fields) of a table with commas, in which quoted fields may hold commas and ends of lines.

    (number of the line, error message) of a line that cannot be decoded or parsed. A quoted field that never ends costs no
    other line.
    """
    lines = _CsvLines(name, open_table, decoder or TableDecoder(open_table, (name,)))
    reader = csv.reader(lines, strict=True)
    while True:
        lines.taken.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield lines.only_first(), f"expected fields between commas: {error}"
            reader = csv.reader(lines, strict=True)
            continue
        if fault := next(((number, f"expected text: {reason}") for number, _, reason in lines.taken if reason), None):
            yield fault
        elif any(row):
            yield lines.taken[-1][0], row


def decode_object(text: str) -> dict[str, Any]:
    """A JSON object in Python's lax form: with NaN, Infinity and raw control characters. Raises ValueError."""
    try:
        found = DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, found {type(found).__name__}")
    return found


def json_lines(
    name: str, open_table: OpenTable, decoder: TableDecoder | None = None
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(number, object) of a table with a JSON object per line; an error message for a line without one."""
    decoder = decoder or TableDecoder(open_table, (name,))
    for number, line in table_lines(name, open_table, decoder.encoding):
        try:
            yield number, decode_object(decoder.decode(line))
        except UnicodeDecodeError as error:
            yield number, f"expected a JSON object, found {line[:60]!r} ({error.reason})"
        except ValueError as error:
            yield number, f"expected a JSON object, found {line[:60]!r} ({error})"


def representable(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 (JSON)
    r"""A value that every JSON reader accepts: NaN becomes null, a lone surrogate \udXXX, a huge integer text."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -LARGEST_INTEGER <= value < LARGEST_INTEGER else hex(value)
    if isinstance(value, list) and depth < DEEPEST:
        return [representable(item, depth + 1) for item in value]
    if isinstance(value, dict) and depth < DEEPEST:
        return {representable(key): representable(item, depth + 1) for key, item in value.items()}
    return None


def stem_of(folder: str, path: str) -> str:
    """A path in a table of `folder`, as a stem of the tree: `..` is resolved, an audio extension removed."""
    name = posixpath.normpath(posixpath.join(folder, path.replace("\\", "/")))
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension.lower() in AUDIO_EXTENSIONS else name
