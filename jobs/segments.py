"""Read the segments of a long recording from its sidecars: lists of segments, `offset` and `duration`, subtitles.

Formats: `{"segments": [{"start": 0.0, "end": 2.5, "text": "...", "id": 7, ...}, ...]}` (Whisper's JSON), that list alone
(Emilia's pipeline), NeMo's `offset` with `duration`, SubRip and WebVTT.
"""

from __future__ import annotations

import codecs
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec

from audio_tokenizers.errors import ClipError
from jobs.sidecars import FAULTS_KEY, LEGACY_READING, Annotations, Reading
from jobs.subtitles import SUBTITLE_EXTENSIONS, subtitle_segments
from jobs.text_encoding import wide_encoding
from jobs.text_rules import take_language, take_text

__all__ = ["MOST_SEGMENTS", "Segment", "Segments", "is_open_end", "read_segments", "with_lists_as_objects"]

MOST_SEGMENTS = 200_000
"""Limit per recording: 100 hours of speech have half as many."""
ROUNDED_SECONDS = 0.5
"""A segment that begins up to this much before 0 begins at 0: transcribers round."""
FARTHEST_SECONDS = 1e9
"""Thirty years: a larger number is not a time in a recording."""
SHARED_BYTES = 1 << 14
"""Metadata of the whole recording is repeated for each segment up to this size."""
WORDS_SHOWN = 40
DECIMAL = re.compile(r"\s*[+-]?[0-9]{1,12}(\.[0-9]{0,20})?\s*", re.ASCII)
LIST_OF_OBJECTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
TEXT_KEY = ("text",)
_list = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a recording."""

    name: str
    """The segment's id, or else its index in the list, from 0."""
    annotations: Annotations
    start: float
    """Seconds."""
    end: float | None
    """Seconds; None: the end of the recording."""
    later: float
    """Earliest begin, in seconds, of the segments after it in the list; infinite for the last one."""
    fault: ClipError | None = None
    """Why the segment cannot be cut."""


def with_lists_as_objects(files: Mapping[str, tuple[str, bytes | str]]) -> dict[str, tuple[str, bytes | str]]:
    """The same sidecars, except that a `.json` which is only a list of objects, as Emilia's pipeline writes it, becomes an
    object with that list as its `segments`.
    """
    found = dict(files)
    name, content = files.get("json", ("", ""))
    if isinstance(content, bytes) and (encoding := wide_encoding(content[:4])) is not None:
        with suppress(UnicodeDecodeError):  # the sidecar's reader reports the error
            content = content.decode(encoding).encode()
    if isinstance(content, bytes) and LIST_OF_OBJECTS.match(content):
        found["json"] = (name, b'{"segments":' + content.removeprefix(codecs.BOM_UTF8) + b"}")
    return found


class Segments:
    """The segments of one recording, in list order."""

    def __init__(self, segments: Sequence[bytes], recording: Annotations, keys: tuple[str, ...] = TEXT_KEY) -> None:
        """`segments` are JSON, each with its text under the first of `keys` that holds one. `recording` is what the sidecar
        says about the whole: each segment inherits its language and, if small, its metadata, unless it has its own.
        """
        self._segments = segments
        self._keys = keys
        self._language = recording.language
        self._shared = _small(recording.metadata_json)
        self._later = array("d", [math.inf])
        for segment in reversed(segments):
            span = _span(msgspec.json.decode(segment))
            self._later.append(self._later[-1] if isinstance(span, str) else min(span[0], self._later[-1]))
        self._later.reverse()

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        for number, segment in enumerate(self._segments):
            yield self._read(number, msgspec.json.decode(segment))

    def _read(self, number: int, found: Any) -> Segment:  # noqa: ANN401 (JSON of any kind)
        span = _span(found)
        start, end = (0.0, None) if isinstance(span, str) else span
        fault = ClipError("segment", f"segment {number} of its list: {span}") if isinstance(span, str) else None
        own: dict[str, Any] = found if isinstance(found, dict) else {}
        said = {key: value for key, value in self._shared.items() if key not in own}
        text, language = take_text(own, self._keys), take_language(own)
        said.update(own)
        if fault is None:
            said = {**said, "start": said.get("start", start), "end": said.get("end", end)}
        metadata = bytes(memoryview(msgspec.json.encode(said))) if said else None
        annotations = Annotations(text, language or self._language, metadata)
        return Segment(_name(found, number), annotations, start, end, self._later[number + 1], fault)


def _small(metadata_json: bytes | None) -> Mapping[str, Any]:
    size = len(metadata_json or b"")
    if size > SHARED_BYTES:
        return {FAULTS_KEY: [f"{size:,} bytes of metadata of the whole recording: not repeated for each of its segments"]}
    return msgspec.json.decode(metadata_json, type=dict[str, Any]) if metadata_json else {}


def _name(found: Any, number: int) -> str:  # noqa: ANN401 (JSON of any kind)
    given = found.get("id") if isinstance(found, dict) else None
    if isinstance(given, bool) or not isinstance(given, int | str) or given == "":
        return str(number)
    return str(given)


def _span(found: Any) -> tuple[float, float | None] | str:  # noqa: ANN401 (JSON of any kind)
    """(start, end) in seconds, or what is wrong with them. As in NeMo, a `duration` of 0 beside an `offset` is open too."""
    if not isinstance(found, dict):
        return f"expected an object with `start` and `end`, found {type(found).__name__}"
    start_key = "start" if "start" in found or "offset" not in found else "offset"
    end_key = "duration" if is_open_end(found.get("end")) and "duration" in found else "end"
    start, end = _seconds(found.get(start_key)), _seconds(found.get(end_key))
    nemo = start_key == "offset" and end_key == "duration"
    open_end = is_open_end(found.get(end_key)) or end == -1 or (nemo and end == 0)
    for key, value in ((start_key, start), *([] if open_end else [(end_key, end)])):
        if value is None:
            words = msgspec.json.encode(found[key]).decode() if key in found else "none"
            return f"expected seconds as its `{key}`, found {words[:WORDS_SHOWN]}"
    assert start is not None
    if start < -ROUNDED_SECONDS:
        return f"it begins at {start:g} s, before its recording"
    if open_end or end is None:
        return max(start, 0.0), None
    end += start if end_key == "duration" else 0.0
    return (max(start, 0.0), max(end, 0.0)) if start <= end else f"it ends at {end:g} s, before it begins at {start:g} s"


def is_open_end(value: object) -> bool:
    """Whether an `end` or `duration` means the recording's: missing, null, NaN (from tables), or -1 (Kaldi)."""
    return value is None or value == -1 or value != value  # noqa: PLR0124 (only NaN differs from itself)


def _seconds(value: Any) -> float | None:  # noqa: ANN401 (JSON of any kind)
    """A number, or a string with a decimal number, as in tables converted to JSON."""
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if abs(seconds) < FARTHEST_SECONDS else None  # false for NaN too


def read_segments(
    said: Annotations, files: Mapping[str, tuple[str, bytes | str]], reading: Reading = LEGACY_READING
) -> Segments | ClipError | None:
    """The segments of a recording whose sidecars say `said`. `files` holds the subtitles, as extension -> (member name,
    content, or why it was not read); they are decoded like the other sidecars. A list in `.json` takes precedence over its
    `offset`, and that over subtitles.

    None: the recording has no segments and is one clip. ClipError: the intended list is not a list, is empty, too long, or
    cannot be read.
    """
    known = msgspec.json.decode(said.metadata_json, type=dict[str, msgspec.Raw]) if said.metadata_json else {}
    listed = bytes(known.pop("segments", b"null"))
    if listed != b"null":
        if not listed.startswith(b"["):
            found = type(msgspec.json.decode(listed)).__name__
            return ClipError("segment", f"expected a list as its `segments`, found {found}")
        return _some([bytes(each) for each in _list.decode(listed)], _without(said, known), reading.keys or TEXT_KEY)
    if "offset" in known:
        segment = {**known, "text": said.text}
        return Segments([msgspec.json.encode(segment)], Annotations(language=said.language))
    for extension in SUBTITLE_EXTENSIONS:
        if extension in files:
            return _of_subtitles(*files[extension], _without(said, known), reading)
    return None


def _of_subtitles(name: str, content: bytes | str, recording: Annotations, reading: Reading) -> Segments | ClipError:
    if isinstance(content, str):
        return ClipError("segment", f"{name}: {content}")
    try:
        cues = subtitle_segments(reading.decode(content))
    except UnicodeDecodeError as error:
        words = error.reason if reading.keys is not None else "neither UTF-8 nor GB18030 text"
        return ClipError("segment", f"{name}: {words}")
    return _some([msgspec.json.encode(cue) for cue in islice(cues, MOST_SEGMENTS + 1)], recording)


def _some(segments: Sequence[bytes], recording: Annotations, keys: tuple[str, ...] = TEXT_KEY) -> Segments | ClipError:
    if not segments:
        return ClipError("segment", "its list of segments is empty")
    if len(segments) > MOST_SEGMENTS:
        return ClipError("segment", f"it has more than {MOST_SEGMENTS:,} segments")
    return Segments(segments, recording, keys)


def _without(said: Annotations, known: Mapping[str, msgspec.Raw]) -> Annotations:
    return replace(said, text=None, metadata_json=msgspec.json.encode(known) if known else None)
