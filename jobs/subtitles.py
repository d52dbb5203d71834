"""SubRip (.srt) and WebVTT (.vtt) -> segments with the keys of JSON lists: `start`, `end`, `text` and, if present, `id`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["SUBTITLE_EXTENSIONS", "subtitle_segments"]

SUBTITLE_EXTENSIONS = ("vtt", "srt")
"""In order of precedence."""
ARROW = "-->"
TIME = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
"""WebVTT may omit hours; SubRip has a comma before the fraction, though some tools write a point."""
TIMES = re.compile(rf"\s*{TIME.pattern}\s*{ARROW}\s*{TIME.pattern}(?:\s|$)")
NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")
"""First words of WebVTT blocks that are not cues."""
VOICE = re.compile(r"<v(?:\.[^ \t<>]*)?[ \t]([^<>]+)>")
TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
"""`<i>`, `</c.yellow>`, `<00:00:01.000>`, and `{\\an8}`, which SubRip players support."""


def subtitle_segments(text: str) -> Iterator[dict[str, Any]]:
    """Segments in file order. Invalid times remain strings: the check of segments reports them.

    Tags are dropped and entities resolved; the NAME of WebVTT's `<v NAME>` becomes `speaker`. A block without times belongs
    to the preceding cue, whose text contains an empty line.
    """
    pending: dict[str, Any] | None = None
    in_webvtt = text.lstrip("\ufeff").startswith("WEBVTT")
    for block in _blocks(text):
        cues = _cues(block)
        before = block[: cues[0][0]] if cues else block
        if pending is not None and not (in_webvtt and before and before[0].split()[0] in NO_CUES):
            pending["lines"] += before
        for first, at, last in cues:
            if pending is not None:
                yield _segment(pending)
            start, _, rest = block[at].partition(ARROW)
            end = (rest.split() or [""])[0]
            pending = {"start": _seconds(start.strip()), "end": _seconds(end), "lines": block[at + 1 : last]}
            if first < at:
                pending["id"] = block[first].strip()
    if pending is not None:
        yield _segment(pending)


def _cues(block: Sequence[str]) -> list[tuple[int, int, int]]:
    """(first line, line of its times, line after its last) of each cue in a block. Writers that omit empty lines put several
    cues, with numbers before their times, into one block.
    """
    times = [at for at, line in enumerate(block) if TIMES.match(line)]
    if not times:  # a malformed line of times must be reported
        times = [at for at, line in enumerate(block[:2]) if ARROW in line][:1]
    firsts = [at - 1 if at == 1 or (at > 1 and block[at - 1].strip().isdigit()) else at for at in times]
    lasts = [*firsts, len(block)][1:]
    return list(zip(firsts, times, lasts, strict=True))


def _blocks(text: str) -> Iterator[list[str]]:
    """Groups of lines separated by empty lines."""
    block: list[str] = []
    for line in re.split(r"\r\n|\r|\n", text.lstrip("\ufeff")):
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _seconds(text: str) -> float | str:
    found = TIME.fullmatch(text)
    if found is None:
        return text
    hours, minutes, seconds, fraction = found.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction or 0}")


def _segment(pending: dict[str, Any]) -> dict[str, Any]:
    lines = pending.pop("lines")
    text = "\n".join(lines)
    voice = VOICE.search(text)
    if voice is not None:
        pending["speaker"] = html.unescape(voice[1].strip())
    pending["text"] = " ".join(html.unescape(TAG.sub("", text)).split())
    return pending
