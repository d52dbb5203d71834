"""Lines of tables, read as a stream, and what of them JSON can say."""

from __future__ import annotations

import csv
import gzip
import json
import math
import posixpath
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from audio_tokenizers.errors import UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.sidecars import decode_text
from tools.packing.archive_safety import SURELY_HARMLESS, refuse_bomb

__all__ = [
    "LONGEST_LINE",
    "OpenTable",
    "csv_rows",
    "decode_object",
    "first_line",
    "json_lines",
    "representable",
    "stem_of",
    "table_lines",
    "text_lines",
]

OpenTable = Callable[[str], BinaryIO]
"""Opens a table of the tree by its name, to be read from its beginning."""

LONGEST_LINE = 64 << 20
DEEPEST = 50
"""Of objects and lists in each other; what is deeper is left out of a row, and far below what the jobs read."""
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


def table_lines(name: str, open_table: OpenTable) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a table, without blank ones. Raises UsageError at a line that is too long to be one."""
    with _opened(name, open_table) as file:
        number = unpacked = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            unpacked += len(line)
            if unpacked > SURELY_HARMLESS and isinstance(file, gzip.GzipFile):
                refuse_bomb(Path(name), file.fileobj.tell(), unpacked)
            if len(line) > LONGEST_LINE:
                raise UsageError(
                    f"{name}: line {number}: longer than {LONGEST_LINE:,} bytes, as no table has: leave it out (--exclude)"
                )
            if stripped := line.strip(b"\r\n"):
                yield number, stripped


def text_lines(name: str, open_table: OpenTable) -> Iterator[tuple[int, str | None]]:
    """(number, line) of a table, without blank ones; None for a line that is no text."""
    for number, line in table_lines(name, open_table):
        try:
            yield number, decode_text(line)
        except UnicodeDecodeError:
            yield number, None


def first_line(name: str, open_table: OpenTable) -> str:
    """The first line of a table that is not blank; nothing if there is none, or if it is no text."""
    return next((line or "" for _, line in text_lines(name, open_table)), "")


def csv_rows(name: str, open_table: OpenTable) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, fields) of a table with commas, in which quoted fields may hold commas and ends of lines."""

    def lines() -> Iterator[str]:
        with _opened(name, open_table) as file:
            while line := file.readline(LONGEST_LINE):
                yield decode_text(line)

    reader = csv.reader(lines(), strict=True)
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        number = reader.line_num + isinstance(error, UnicodeDecodeError)  # which has no line yet
        raise UsageError(
            f"{name}: line {number}: expected fields between commas, found none ({error}): mend it, or leave the table "
            "out with --exclude"
        ) from None


def decode_object(text: str) -> dict[str, Any]:
    """A JSON object as Python or anybody writes it: NaN, Infinity and raw control characters too. Raises ValueError."""
    try:
        found = DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, found {type(found).__name__}")
    return found


def json_lines(name: str, open_table: OpenTable) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(number, object) of a table with a JSON object per line; in words what is wrong with a line that has none."""
    for number, line in table_lines(name, open_table):
        try:
            yield number, decode_object(decode_text(line))
        except ValueError as error:  # a UnicodeDecodeError is one
            yield number, f"expected a JSON object, found {line[:60]!r} ({error})"


def representable(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 (JSON)
    r"""A value as any reader of JSON can hold it: NaN becomes null, half a character \udXXX, a huge integer text."""
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
    """A path that a table in `folder` names, as a stem of the tree: `..` goes up, and `.wav` and the like goes off."""
    name = posixpath.normpath(posixpath.join(folder, path.replace("\\", "/")))
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension.lower() in AUDIO_EXTENSIONS else name
