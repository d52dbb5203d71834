r"""Text of others (names of members and tars, errors, logs) as a terminal and a log may have it: only signs that show.

An escape sequence moves the cursor, changes what stands above or types for a person; a line end forges a line of a log; a
mark of direction shows a name that is another one. Here they become escapes, \x1b, \n, \u202e. Records keep the true name.
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
"""Persian, Hindi and emoji join and part letters with them; they change no order."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
INDENT = "  "


def _shows(sign: str) -> bool:
    # Zs: spaces that are not ASCII's do not count as printable, such as the wide one of Chinese texts.
    return sign.isprintable() or sign in ALLOWED or unicodedata.category(sign) == "Zs"


def plain(text: object) -> str:
    """The text in one line, with an escape in place of every sign that does not show."""
    words = str(text)
    if words.isprintable():  # nearly always
        return words
    return "".join(sign if _shows(sign) else sign.encode("unicode_escape").decode("ascii") for sign in words)


def plain_lines(text: object) -> str:
    """The same for a message that may have several lines: those after the first are indented, so that none passes for one of
    ours.
    """
    words = str(text)
    if words.isprintable():
        return words
    first, *more = words.split("\n")
    return "\n".join([plain(first), *(plain(line if line[:1] in ("", " ") else INDENT + line) for line in more)])


def plain_json(text: str) -> str:
    """JSON that says the same and shows every sign: escapes are JSON's own, so that names stay true. Line ends stay."""
    return "".join(sign if sign == "\n" or _shows(sign) else _json_escape(sign) for sign in text)


def _json_escape(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def without_colours(text: str) -> str:
    """Without the sequences that other programs colour their logs with."""
    return COLOURS.sub("", text)


def warn(text: object) -> None:
    """Print a message on stderr, rendered."""
    print(plain_lines(text), file=sys.stderr, flush=True)


def warn_of_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """For sys.excepthook: a traceback on stderr, rendered, since the message may have been made of a name."""
    warn("".join(traceback.format_exception(kind, error, at)).rstrip())


class PlainFormatter(logging.Formatter):
    """Renders every log line: what is a text or a path among its arguments in one line, the whole as `plain_lines` does."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, perhaps with a traceback."""
        if isinstance(record.args, tuple):
            record = copy.copy(record)
            record.args = tuple(plain(value) if isinstance(value, str | PurePath) else value for value in record.args or ())
        return plain_lines(super().format(record))


class _PlainStream:
    """A text stream that shows every sign but line ends and tabs."""

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
    """Within this block whatever is printed on sys.stdout, or sys.stderr, is rendered: the net below all commands."""
    stream = getattr(sys, name)
    setattr(sys, name, cast("TextIO", _PlainStream(stream)))
    try:
        yield
    finally:
        setattr(sys, name, stream)
