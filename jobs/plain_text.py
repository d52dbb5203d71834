r"""Render foreign text (names of members and tars, errors, logs) for terminals and logs: visible characters only.

An escape sequence can move the cursor, overwrite earlier output or type input; a line break forges a log line; a direction
mark disguises a name. They are rendered as escapes: \x1b, \n, \u202e. Records keep the true name.
"""

from __future__ import annotations

import copy
import logging
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import TracebackType
from typing import Literal, TextIO, cast

__all__ = ["PlainFormatter", "plain", "plain_json", "plain_lines", "plain_stream", "warn", "warn_of_bug", "without_colours"]

ALLOWED = "\u200c\u200d"
"""Joiner and non-joiner, used in Persian, Hindi and emoji; they do not reorder text."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
INDENT = "  "


def _shows(sign: str) -> bool:
    # Zs: isprintable() is False for spaces outside ASCII, such as the ideographic space in Chinese texts.
    return sign.isprintable() or sign in ALLOWED or unicodedata.category(sign) == "Zs"


def plain(text: object) -> str:
    """The text on one line, with every invisible character escaped."""
    words = str(text)
    if words.isprintable():  # fast path, nearly always taken
        return words
    return "".join(sign if _shows(sign) else sign.encode("unicode_escape").decode("ascii") for sign in words)


def plain_lines(text: object) -> str:
    """The same for a message of several lines; lines after the first are indented to keep them from posing as ours."""
    words = str(text)
    if words.isprintable():
        return words
    first, *more = words.split("\n")
    return "\n".join([plain(first), *(plain(line if line[:1] in ("", " ") else INDENT + line) for line in more)])


def plain_json(text: str) -> str:
    """Equivalent JSON with every invisible character as a JSON escape, which preserves names. Line ends stay."""
    return "".join(sign if sign == "\n" or _shows(sign) else _json_escape(sign) for sign in text)


def _json_escape(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def without_colours(text: str) -> str:
    """Strip the colour sequences from other programs' logs."""
    return COLOURS.sub("", text)


def warn(text: object) -> None:
    """Print a message on stderr, rendered."""
    print(plain_lines(text), file=sys.stderr, flush=True)


def warn_of_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """For sys.excepthook: print a traceback on stderr, rendered, since its message may contain a foreign name."""
    warn("".join(traceback.format_exception(kind, error, at)).rstrip())


class PlainFormatter(logging.Formatter):
    """Renders every log record: text and path arguments on one line, the whole with `plain_lines`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, perhaps with a traceback."""
        if isinstance(record.args, tuple):
            record = copy.copy(record)
            record.args = tuple(plain(value) if isinstance(value, str | PurePath) else value for value in record.args or ())
        return plain_lines(super().format(record))


class _PlainStream:
    """A text stream that escapes all invisible characters but line ends and tabs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, rendered."""
        self._stream.write(text if text.isprintable() else re.sub(r"[^\n\t]+", lambda part: plain(part[0]), text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write all."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def plain_stream(name: Literal["stdout", "stderr"]) -> Iterator[None]:
    """Within this block all output on sys.stdout or sys.stderr is rendered: a safety net below all commands."""
    stream = getattr(sys, name)
    setattr(sys, name, cast("TextIO", _PlainStream(stream)))
    try:
        yield
    finally:
        setattr(sys, name, stream)
