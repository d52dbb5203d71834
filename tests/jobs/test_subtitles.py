"""jobs/subtitles.py: SubRip and WebVTT, as people's tools write them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jobs.subtitles import subtitle_segments

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello.

2
01:02:03,004 --> 01:02:04,000 X1:10 X2:20 Y1:1 Y2:2
<i>Two</i> lines,
<font color="#fff">one</font> text. {\\an8}
"""
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE
nothing to hear

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Fred Smith>Hi<00:00:01.500><c> there</c> &amp; &lt;all&gt;

01:00:00.000 --> 01:00:01.000
a < b, 3 > 2
"""


def cues(text: str) -> list[dict[str, Any]]:
    return list(subtitle_segments(text))


def test_subrip() -> None:
    """Numbers are ids, formatting is left out, lines are one text."""
    assert cues(SRT) == [
        {"start": 1.0, "end": 2.5, "id": "1", "text": "Hello."},
        {"start": 3723.004, "end": 3724.0, "id": "2", "text": "Two lines, one text."},
    ]


def test_webvtt() -> None:
    """Headers, styles and notes are no cues; a voice is the speaker; entities are letters."""
    assert cues(VTT) == [
        {"start": 1.0, "end": 2.5, "id": "intro", "speaker": "Fred Smith", "text": "Hi there & <all>"},
        {"start": 3600.0, "end": 3601.0, "text": "a < b, 3 > 2"},
    ]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
@pytest.mark.parametrize("text", [SRT, VTT])
def test_lines_of_any_system(text: str, newline: str) -> None:
    """Nor does a byte order mark change anything."""
    assert cues("\ufeff" + text.replace("\n", newline)) == cues(text)


def test_cues_without_empty_lines_between() -> None:
    """Each is one, and no number gets into a text."""
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:02,000 --> 00:00:03,000\ntwo\n00:00:03,000 --> 00:00:04,000\nthree"
    )
    assert [(cue["start"], cue.get("id"), cue["text"]) for cue in cues(text)] == [
        (1.0, "1", "one"),
        (2.0, "2", "two"),
        (3.0, None, "three"),
    ]


def test_an_empty_line_within_a_text() -> None:
    """What follows it still belongs to the cue."""
    text = "00:01.0 --> 00:02.0\none\n\nand more\n\n00:03.0 --> 00:04.0\ntwo"
    assert [cue["text"] for cue in cues(text)] == ["one and more", "two"]


@pytest.mark.parametrize(
    "times", ["00:xx --> 00:04.000", "--> 00:04.000", "00:01.000 -->", "1.5 --> 2", "-00:01.0 --> 00:04.0"]
)
def test_times_that_are_none_stay_as_they_are(times: str) -> None:
    """So that the segment is named, and costs no other one."""
    bad, good = cues(f"1\n{times}\nbad\n\n2\n00:00:05,000 --> 00:00:06,000\ngood\n")
    assert not (isinstance(bad["start"], float) and isinstance(bad["end"], float))
    assert (bad["id"], bad["text"], good["start"], good["text"]) == ("1", "bad", 5.0, "good")


@pytest.mark.parametrize("text", ["", "\n\n", "WEBVTT", "WEBVTT\n\nNOTE x", "no cues at all"])
def test_no_cues(text: str) -> None:
    """A file may have none."""
    assert cues(text) == []


def test_anything_is_read_without_an_exception() -> None:
    """Damaged files give segments of which another module judges, in bounded time."""
    alphabet = [
        *("-->", "\n", "\n\n", "00:01.5", "00:00:02,5", ":", "1", "<v ", "<", ">"),
        *("&amp;", "&#x110000;", "NOTE", " ", "\0"),
    ]
    for seed in range(3000):
        chance = random.Random(seed)
        text = "".join(chance.choice(alphabet) for _ in range(chance.randrange(60)))
        for cue in subtitle_segments(text):
            assert {"start", "end", "text"} <= cue.keys()
    for text in (
        piece * 100_000 for piece in ("<", "{\\", "<v ", "<v.", "<v" + " " * 9, " ", "1:", "-->", "\n", "<a", "<1")
    ):
        cues(f"00:01.0 --> 00:02.0\n{text}")
        cues(text)
