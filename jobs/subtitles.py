"""SubRip (.srt) and WebVTT (.vtt) -> segments in the words of JSON: `start`, `end`, `text` and, where there is one, `id`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["SUBTITLE_EXTENSIONS", "subtitle_segments"]

SUBTITLE_EXTENSIONS = ("vtt", "srt")
"""In the order in which they are asked."""
ARROW = "-->"
TIME = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
"""Hours may be missing in WebVTT; SubRip has a comma before the fraction, but for the tools that write a point."""
TIMES = re.compile(rf"\s*{TIME.pattern}\s*{ARROW}\s*{TIME.pattern}(?:\s|$)")
NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")
"""How blocks of WebVTT begin that are no cues."""
VOICE = re.compile(r"<v(?:\.[^ \t<>]*)?[ \t]([^<>]+)>")
TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
"""`<i>`, `</c.yellow>`, `<00:00:01.000>`, and `{\\an8}` as players of SubRip know it."""


def subtitle_segments(text: str) -> Iterator[dict[str, Any]]:
    """Segments in the order of the file. Invalid times stay text, for the check of segments.

    Tags are left out and entities resolved; who speaks in a `<v NAME>` of WebVTT is `speaker`. A block without times
    belongs to the text before it, which has an empty line.
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
    """Of each cue in a block: its first line, that of its times, and the one after its last. Writers that forget empty
    lines have several cues in one block, with numbers before their times.
    """
    times = [at for at, line in enumerate(block) if TIMES.match(line)]
    if not times:  # what was meant for times has to be named
        times = [at for at, line in enumerate(block[:2]) if ARROW in line][:1]
    firsts = [at - 1 if at == 1 or (at > 1 and block[at - 1].strip().isdigit()) else at for at in times]
    lasts = [*firsts, len(block)][1:]
    return list(zip(firsts, times, lasts, strict=True))


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that stand together."""
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
