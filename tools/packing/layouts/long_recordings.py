"""GigaSpeech.json and WenetSpeech.json: long recordings with transcribed segments.

The file is one JSON object of up to 20 GB, read through a window, one recording at a time. A recording stays whole, and its
sidecar has `segments`, by which the tokenizer cuts (`--segments`).
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from audio_tokenizers.errors import UsageError
from jobs.segments import is_open_end
from tools.packing.layouts.table_lines import LONGEST_LINE, stem_of
from tools.packing.layouts.tables import Annotated, Book, Line, OtherKindError, Reading
from tools.packing.pairs import LeftOut

__all__ = ["by_time", "is_recordings_table", "recording_books", "recordings", "segment"]

TABLE = re.compile(r"(giga|wenet)speech[^/]*\.json", re.IGNORECASE)
AUDIOS, PATH, SEGMENTS = "audios", "path", "segments"
NAMES = {"sid": "id", "begin_time": "start", "end_time": "end", "text_tn": "text"}
"""The corpora's keys -> ours."""
WINDOW = 4 << 20
"""Characters read at a time; more if one recording has more."""
DECODER = json.JSONDecoder(strict=False)
SPACE = re.compile(r"[ \t\r\n]*")


def is_recordings_table(base: str) -> bool:
    """Whether a file with this base name may be such a table."""
    return TABLE.fullmatch(base) is not None


def recording_books(tables: Iterable[str]) -> Iterator[Book]:
    """The books that these files may be, given by their paths in the tree."""
    for name in sorted(tables):
        folder, _, base = name.rpartition("/")
        if found := TABLE.fullmatch(base):
            layout = "GigaSpeech" if found[1].lower() == "giga" else "WenetSpeech"
            yield Book(layout, (name,), folder, _read)


def _read(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    name = book.tables[0]
    folder = name.rpartition("/")[0]
    with reading.open_table(name) as file:
        for number, (header, audio) in enumerate(recordings(name, file), 1):
            where = f"recording {number:,} of {name}"
            path = audio.pop(PATH, None) if isinstance(audio, dict) else None
            if not isinstance(path, str) or not path:
                yield LeftOut("unreadable_text", where, f"expected an object with the audio's `{PATH}`, found {audio!r:.60}")
                continue
            listed = audio.pop(SEGMENTS, None)
            segments = []
            for at, raw in enumerate(listed if isinstance(listed, list) else []):
                made = segment(raw)
                if isinstance(made, str):
                    yield LeftOut("unreadable_text", f"{where}, segment {at:,}", made)
                else:
                    segments.append(made)
            language = header.get("language")
            said = Annotated(
                language=language.lower() if isinstance(language, str) and language else None,
                metadata={**audio, SEGMENTS: segments} if segments else audio,
            )
            yield Line(stem_of(folder, path), said, where)


def segment(raw: object) -> dict[str, Any] | str:
    """A segment with `id`, `start` and `end` in seconds, `text` and the rest unchanged; or an error message.

    Without `end` it extends to the end of the recording (see `is_open_end`).
    """
    if not isinstance(raw, dict):
        return f"expected an object, found {raw!r:.60}"
    found: dict[str, Any] = {NAMES.get(key, key): value for key, value in raw.items() if isinstance(key, str)}
    goes_on = is_open_end(found.get("end"))
    if goes_on:
        found.pop("end", None)
    start, end = _seconds(found.get("start")), math.inf if goes_on else _seconds(found["end"])
    if start is None or end is None or not 0 <= start < end or (end == math.inf and not goes_on):
        times = f"{found.get('start')!r:.40} and {found.get('end')!r:.40}"
        return f"expected a begin and a later end in seconds, found {times}"
    first: dict[str, Any] = {key: found.pop(key) for key in ("id", "start", "end", "text") if key in found}
    return {**first, **found}


def by_time(part: dict[str, Any]) -> tuple[float, float]:
    """Sort key of a recording's segments."""
    return part["start"], part.get("end", math.inf)


def _seconds(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def recordings(name: str, file: BinaryIO) -> Iterator[tuple[dict[str, Any], Any]]:
    """(earlier keys of the object, one of its `audios`), using memory for the largest of these only.

    Raises OtherKindError if there is no object at the beginning, UsageError if the JSON is damaged or has no `audios`.
    """
    window = _Window(name, file)
    header = _header(name, window)
    if window.take() != "[":
        raise window.damaged()
    if window.next() == "]":
        return
    while True:
        yield header, window.value()
        if (mark := window.take()) == "]":
            return
        if mark != ",":
            raise window.damaged()


def _header(name: str, window: _Window) -> dict[str, Any]:
    """The keys of the object before its recordings; leaves the window there."""
    if window.take() != "{":
        raise OtherKindError(f"expected a JSON object with `{AUDIOS}`, found {window.shown()!r}")
    header: dict[str, Any] = {}
    while True:
        key = window.value()
        if not isinstance(key, str) or window.take() != ":":
            raise window.damaged()
        if key == AUDIOS:
            return header
        header[key] = window.value()
        if (mark := window.take()) == "}":
            raise UsageError(
                f"{name}: expected the recordings under `{AUDIOS}`, found these keys: {', '.join(header)[:200]}"
            )
        if mark != ",":
            raise window.damaged()


class _Window:
    """A window on a JSON text."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._passed = 0
        self._ended = False

    def _more(self) -> bool:
        """Double the unread part of the window; False at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(max(WINDOW, len(self._text) - self._at))
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError:
            raise UsageError(f"{self._name}: expected JSON in UTF-8, found other bytes: convert it") from None
        self._passed += self._at
        self._text = self._text[self._at :] + text
        self._at = 0
        return not self._ended

    def next(self) -> str:
        """Peek at the next character that is no space; empty at the end."""
        while True:
            found = SPACE.match(self._text, self._at)
            self._at = found.end() if found is not None else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """Consume the next character that is no space."""
        character = self.next()
        self._at += len(character)
        return character

    def value(self) -> Any:  # noqa: ANN401 (JSON)
        """Consume the next value."""
        self.next()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise UsageError(f"{self._name}: nested too deep, near character {self._passed + self._at:,}") from None
            except ValueError:
                end = 0
            if 0 < end < len(self._text) or (end and self._ended):  # a number at the end of the window may continue
                self._at = end
                return found
            if len(self._text) - self._at > LONGEST_LINE or not self._more():
                if end:
                    continue
                raise self.damaged()

    def shown(self) -> str:
        """A sample of the text here."""
        return self._text[self._at : self._at + 60]

    def damaged(self) -> UsageError:
        """The error for truncated or invalid JSON."""
        place = self._passed + self._at
        what = f"found {self.shown()!r}" if self.shown() else "it is cut there"
        return UsageError(
            f"{self._name}: expected JSON, and near character {place:,} {what}: get the file again from its source"
        )
