"""jobs/segments.py: which pieces of a recording its sidecars tell of, and which of them cannot be cut."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from audio_tokenizers.errors import ClipError
from jobs import segments
from jobs.segments import Segment, Segments, read_segments, with_lists_as_objects
from jobs.sidecars import LARGEST_SIDECAR, Annotations, Reading, read_sidecars, too_large
from jobs.text_rules import TEXT_KEYS


def read(**files: object) -> Segments | ClipError | None:
    """Of sidecars by extension: what is no text is written as JSON."""
    found: dict[str, tuple[str, bytes | str]] = {}
    for extension, content in files.items():
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        found[extension] = (f"a.{extension}", data.encode() if isinstance(data, str) else data)
    return read_segments(read_sidecars(found), found)


def listed(**files: object) -> list[Segment]:
    found = read(**files)
    assert isinstance(found, Segments)
    segments = list(found)
    assert len(segments) == len(found)
    return segments


def spans(**files: object) -> list[tuple[str, float, float | None]]:
    return [(one.name, one.start, one.end) for one in listed(**files)]


def faults(*items: object) -> list[str]:
    return [str(one.fault or "") for one in listed(json={"segments": list(items)})]


WHISPER = {
    "text": " One. Two.",
    "segments": [
        {"id": 0, "seek": 0, "start": 0.0, "end": 2.5, "text": " One.", "tokens": [50364, 1], "temperature": 0.0},
        {"id": 1, "seek": 0, "start": 2.5, "end": 4.0, "text": " Two.", "tokens": [2], "temperature": 0.0},
    ],
    "language": "en",
}


def test_whispers_json() -> None:
    """Each segment has its own text, the recording's language, and the rest of what is said of it as metadata."""
    one, two = listed(json=WHISPER)
    assert (one.name, one.start, one.end, one.fault) == ("0", 0.0, 2.5, None)
    assert (one.annotations.text, one.annotations.language) == (" One.", "en")
    expected = {"id": 1, "seek": 0, "start": 2.5, "end": 4.0, "tokens": [2], "temperature": 0.0}
    assert (two.name, two.annotations.text, two.annotations.metadata) == ("1", " Two.", expected)


def test_emilias_raw_form() -> None:
    """Segments may have languages and speakers of their own; what is said of the recording stays with each."""
    recording = {"language": "en", "speaker": "none", "dnsmos": 3.1, "segments": [
        {"start": 1, "end": 2, "text": "a", "speaker": "S1"}, {"start": 2, "end": 3, "text": "b", "language": "zh"},
    ]}  # fmt: skip
    one, two = listed(json=recording)
    assert (one.name, one.annotations.language, two.annotations.language) == ("0", "en", "zh")
    assert one.annotations.metadata == {"speaker": "S1", "dnsmos": 3.1, "start": 1, "end": 2}
    assert two.annotations.metadata == {"speaker": "none", "dnsmos": 3.1, "start": 2, "end": 3}


def test_times_that_are_texts() -> None:
    """As JSON has them that was a table once: they are the same times, and the metadata keeps them as they are."""
    one, two, three = listed(
        json={
            "segments": [{"start": "0.5", "end": " 2 "}, {"start": "+3.", "duration": "1.25"}, {"start": "1", "end": "-1"}]
        }
    )
    assert [(segment.start, segment.end) for segment in (one, two, three)] == [(0.5, 2.0), (3.0, 4.25), (1.0, None)]
    assert one.annotations.metadata is not None
    assert one.annotations.metadata["start"] == "0.5"
    (nemo,) = listed(json={"offset": "0.5", "duration": "0.5"})
    assert (nemo.start, nemo.end) == (0.5, 1.0)


def test_a_list_alone() -> None:
    """As Emilia's pipeline writes it: it counts as `segments`. Other lists are no object, as ever."""
    items = [{"start": 1, "end": 2, "text": "é", "language": "fr", "dnsmos": 3.5}]
    for data in (json.dumps(items), json.dumps(items, indent=2), "\ufeff " + json.dumps(items, ensure_ascii=False)):
        files = with_lists_as_objects({"json": ("a.json", data.encode())})
        found = read_segments(read_sidecars(files), files)
        assert isinstance(found, Segments)
        (one,) = found
        assert (one.start, one.annotations.text, one.annotations.language) == (1.0, "é", "fr")
    for text in ("[]", "[1, 2]", '{"a": [{}]}', "[[{}]]", "x"):
        given: dict[str, tuple[str, bytes | str]] = {"json": ("a.json", text.encode())}
        assert with_lists_as_objects(given) == given
    assert with_lists_as_objects({"json": ("a.json", "too large")}) == {"json": ("a.json", "too large")}
    assert with_lists_as_objects({}) == {}


def test_texts_stand_where_they_do_in_other_sidecars() -> None:
    """Under the keys that data sets use, or the one that a person names; never under one of the whole recording. What
    subtitles say is the text under any.
    """
    items = [{"start": 0, "end": 1, "sentence": "a", "lang": "en"}, {}]
    said = {"transcript": "whole", "sentence": "all", "segments": items}
    files: dict[str, tuple[str, bytes | str]] = {"json": ("a.json", json.dumps(said).encode())}
    for reading, text in ((Reading(TEXT_KEYS), "a"), (Reading(("transcript",)), None)):
        one, two = read_segments(read_sidecars(files, reading), files, reading)  # type: ignore[misc]
        assert (one.annotations.text, one.annotations.language, two.annotations.text) == (text, "en", None)
    cue: dict[str, tuple[str, bytes | str]] = {"srt": ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nwords\n")}
    (one,) = read_segments(Annotations(), cue, Reading(("transcript",)))  # type: ignore[misc]
    assert one.annotations.text == "words"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_alone_in_wide_characters(encoding: str) -> None:
    """It counts as `segments`, too; and what is none in that encoding stays as it is."""
    data = json.dumps([{"start": 0, "end": 1, "text": "é"}], ensure_ascii=False).encode(encoding)
    files = with_lists_as_objects({"json": ("a.json", data)})
    found = read_segments(read_sidecars(files), files)
    assert isinstance(found, Segments)
    assert [one.annotations.text for one in found] == ["é"]
    torn: dict[str, tuple[str, bytes | str]] = {"json": ("a.json", data[:-1])}
    assert with_lists_as_objects(torn) == torn


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("utt-7", "utt-7"),
        (7, "7"),
        (0, "0"),
        ("", "3"),
        (None, "3"),
        (True, "3"),
        (1.5, "3"),
        ([1], "3"),
        ("a/b#c d", "a/b#c d"),
    ],
)
def test_names(given: object, name: str) -> None:
    """An id that is a text or a whole number names the segment, and else its place in the list."""
    padding = [{"start": 0, "end": 1}] * 3
    assert listed(json={"segments": [*padding, {"start": 0, "end": 1, "id": given}]})[3].name == name


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"start": 5, "end": 4}, "it ends at 4 s, before it begins at 5 s"),
        ({"start": "1,5", "end": 4}, 'expected seconds as its `start`, found "1,5"'),
        ({"start": "nan", "end": 4}, 'expected seconds as its `start`, found "nan"'),
        ({"start": "00:01", "end": 4}, 'expected seconds as its `start`, found "00:01"'),
        ({"end": 1}, "expected seconds as its `start`, found none"),
        ({}, "expected seconds as its `start`, found none"),
        ({"start": True, "end": 4}, "expected seconds as its `start`, found true"),
        ({"start": 1, "end": [2]}, "expected seconds as its `end`, found [2]"),
        ({"start": -3, "end": 4}, "it begins at -3 s, before its recording"),
        ({"start": 1, "end": -2}, "it ends at -2 s, before it begins at 1 s"),
        ({"start": 1, "duration": -0.5}, "it ends at 0.5 s, before it begins at 1 s"),
        ({"start": 1, "end": True}, "expected seconds as its `end`, found true"),
        ({"start": 10**400, "end": 4}, "expected seconds as its `start`, found 1000"),
        ({"start": 1, "end": 1e308}, "expected seconds as its `end`, found 1e308"),
        ({"start": 1, "duration": 1e9}, "expected seconds as its `duration`, found 1000000000.0"),
        ([0, 1, "text"], "expected an object with `start` and `end`, found list"),
        (None, "expected an object with `start` and `end`, found NoneType"),
    ],
)
def test_a_bad_segment_is_named_and_costs_no_other(bad: object, words: str) -> None:
    """In its place, with what was expected and what was found."""
    good = {"start": 1, "end": 2}
    found = faults(good, bad, good)
    assert found[0] == found[2] == ""
    assert found[1].startswith(f"segment 1 of its list: {words}")


def test_rounded_times() -> None:
    """A moment before the beginning is the beginning."""
    assert spans(json={"segments": [{"start": -0.02, "end": 1}, {"start": -0.3, "end": -0.1}]}) == [("0", 0, 1), ("1", 0, 0)]


def test_durations_instead_of_ends() -> None:
    """As in lhotse's supervisions and in NeMo's manifests."""
    items = [{"start": 1.5, "duration": 2}, {"offset": 1.5, "duration": 2}, {"start": 1, "end": 2, "duration": 9}]
    assert spans(json={"segments": items}) == [("0", 1.5, 3.5), ("1", 1.5, 3.5), ("2", 1.0, 2.0)]


@pytest.mark.parametrize("end", [{}, {"end": None}, {"end": -1}, {"end": -1.0}, {"duration": None}, {"duration": -1}])
def test_an_end_that_is_missing_is_that_of_the_recording(end: dict[str, object]) -> None:
    """So it is where it is null or -1, as `end` or as `duration`, beside `start` and beside `offset`."""
    for start in ("start", "offset"):
        (one,) = listed(json={"segments": [{start: 1.5, **end, "text": "x"}]})
        assert (one.start, one.end, one.fault) == (1.5, None, None)
    assert spans(json={"segments": [{"start": 1, "end": -1, "duration": 2}]}) == [("0", 1.0, 3.0)]
    assert spans(json={"offset": 4, **end}) == [("0", 4.0, None)]


def test_a_duration_of_nothing() -> None:
    """Beside `offset` it is NeMo's word for the rest of the recording; beside `start` there is nothing."""
    assert spans(json={"offset": 4, "duration": 0}) == [("0", 4.0, None)]
    assert spans(json={"segments": [{"start": 4, "duration": 0}]}) == [("0", 4.0, 4.0)]


def test_offset_and_duration_of_the_whole() -> None:
    """NeMo's cut: one segment with the sidecar's text; without a duration it goes to the end."""
    (one,) = listed(json={"offset": 1.5, "duration": 2, "text": "words", "language": "de", "speaker": "x"})
    assert (one.name, one.start, one.end) == ("0", 1.5, 3.5)
    assert (one.annotations.text, one.annotations.language) == ("words", "de")
    assert one.annotations.metadata == {"offset": 1.5, "duration": 2, "speaker": "x", "start": 1.5, "end": 3.5}
    assert spans(json={"offset": 4}) == [("0", 4.0, None)]
    (bad,) = listed(json={"offset": "4 s"})
    assert "expected seconds as its `offset`" in str(bad.fault)


def test_a_text_beside_an_offset() -> None:
    """It is that of the segment."""
    (one,) = listed(json={"offset": 1, "duration": 2}, txt="words")
    assert one.annotations.text == "words"


def test_a_duration_alone_cuts_nothing() -> None:
    """It only says how long the audio is."""
    assert read(json={"duration": 2.0, "text": "words"}) is None


def test_subtitles() -> None:
    """Cues are segments; a text for the whole is none of theirs."""
    srt = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
    (one,) = listed(srt=srt, txt="all of it", json={"speaker": "x"})
    assert (one.name, one.start, one.end, one.annotations.text) == ("1", 1.0, 2.0, "Hello")
    assert one.annotations.metadata == {"speaker": "x", "id": "1", "start": 1.0, "end": 2.0}


def test_which_counts_more() -> None:
    """A list in .json, then an offset, then .vtt, then .srt."""
    vtt, srt = "WEBVTT\n\n00:01.0 --> 00:02.0\n", "1\n00:00:03,000 --> 00:00:04,000\n"
    assert spans(json={"segments": [{"start": 7, "end": 8}], "offset": 5}, vtt=vtt, srt=srt) == [("0", 7, 8)]
    assert spans(json={"offset": 5, "segments": None}, vtt=vtt, srt=srt) == [("0", 5, None)]
    assert spans(json={"text": "x"}, vtt=vtt, srt=srt) == [("0", 1, 2)]
    assert spans(srt=srt) == [("1", 3, 4)]


def test_no_segments() -> None:
    """Audio of which nothing says so is one clip; so is one whose .json cannot be read."""
    for json_text in ({}, {"text": "x"}, {"segments": None}, "[]", "{", "5"):
        assert read(json=json_text) is None
    assert read() is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "its list of segments is empty"),
        ({}, "expected a list as its `segments`, found dict"),
        ("x", "expected a list as its `segments`, found str"),
        (5, "expected a list as its `segments`, found int"),
        ([[0, 1]] * 4, "it has more than 3 segments"),
    ],
)
def test_a_list_that_is_none(given: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is not taken whole instead."""
    monkeypatch.setattr(segments, "MOST_SEGMENTS", 3)
    found = read(json={"segments": given})
    assert isinstance(found, ClipError)
    assert (found.kind, str(found)) == ("segment", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"WEBVTT\n", "its list of segments is empty"),
        (b"\xff\xff\xff", "a.vtt: neither UTF-8 nor GB18030 text"),
        (too_large(), f"a.vtt: larger than {LARGEST_SIDECAR:,} bytes"),
    ],
)
def test_subtitles_that_cannot_be_used(content: bytes | str, words: str) -> None:
    """Likewise, and with the file's name where that is at fault."""
    found = read_segments(Annotations(), {"vtt": ("a.vtt", content)})
    assert isinstance(found, ClipError)
    assert str(found) == words


def test_where_the_later_ones_begin() -> None:
    """So that what nobody needs any more can be forgotten; bad ones need nothing."""
    starts: list[Any] = [5, 1, 9, "bad", 3, 7]
    items = [{"start": start, "end": 10} for start in starts]
    assert [one.later for one in listed(json={"segments": items})] == [1, 3, 3, 3, 7, math.inf]


def test_much_metadata_of_the_whole_is_not_repeated() -> None:
    """A few megabytes would become gigabytes; that it is left out is said."""
    recording = {"note": "x" * 20_000, "segments": [{"start": 0, "end": 1}] * 2}
    for one in listed(json=recording):
        (said,) = (one.annotations.metadata or {})["sidecar_errors"]
        assert "of the whole recording: not repeated" in said


def test_anything_is_read_without_an_exception() -> None:
    """JSON of any shape gives segments, each of them with a span or a fault, or one clip, or one error."""
    values: list[Any] = [None, True, 0, -1, 1.5, 1e308, 10**400, "", "x", [], {}, [0], {"start": 1, "end": 2}]
    keys = ["start", "end", "offset", "duration", "text", "id", "language"]
    for seed in range(2000):
        chance = random.Random(seed)
        items = [
            {chance.choice(keys): chance.choice(values) for _ in range(chance.randrange(6))} if chance.random() < 0.8
            else chance.choice(values)
            for _ in range(chance.randrange(4))
        ]  # fmt: skip
        found = read(json={chance.choice(["segments", *keys]): chance.choice([items, *values]), "segments": items})
        for one in found if isinstance(found, Segments) else ():
            assert one.fault is not None or (one.start >= 0 and (one.end is None or one.start <= one.end))
            assert max(one.start, one.end or 0) < 1e10


def test_texts_under_the_keys_of_the_run() -> None:
    """In their order, as in any sidecar, with the language; what is said of the whole recording is no segment's text."""
    list_of = [
        {"start": 0, "end": 1, "transcript": "one", "lang": "de"},
        {"start": 1, "end": 2, "text": " ", "transcript": "two"},
        {"start": 2, "end": 3, "text": 5},
        {"start": 3, "end": 4, "raw_text": "four", "locale": "fr"},
    ]
    said = {"sentence": "all", "raw_text": "ALL", "language": "en", "locale": "xx", "segments": list_of}
    for keys, texts in (
        (TEXT_KEYS, ["one", "two", None, "four"]),
        (("raw_text", "transcript"), ["one", "two", None, "four"]),
        (("lang",), ["de", None, None, None]),
        (None, [None, " ", None, None]),
    ):
        files = {"json": ("a.json", json.dumps(said).encode())}
        found = read_segments(read_sidecars(files, Reading(keys)), files, Reading(keys))
        assert isinstance(found, Segments)
        assert [one.annotations.text for one in found] == texts
        if keys == TEXT_KEYS:
            assert [one.annotations.language for one in found] == ["de", "en", "en", "fr"]
            assert [set(one.annotations.metadata or {}) & {"text", "transcript", "raw_text", "lang"} for one in found] == [
                {"raw_text"},
                {"raw_text", "text"},
                {"raw_text", "text"},
                set(),
            ]


@pytest.mark.parametrize("keys", [("transcript",), TEXT_KEYS, None])
def test_a_text_beside_an_offset_under_any_key(keys: tuple[str, ...] | None) -> None:
    """It is the sidecar's, wherever the run found it; so are the texts of subtitles."""
    files: dict[str, tuple[str, bytes | str]] = {
        "json": ("a.json", json.dumps({"offset": 1.0, "duration": 2.0, keys[0] if keys else "text": "words"}).encode())
    }
    found = read_segments(read_sidecars(files, Reading(keys)), files, Reading(keys))
    assert isinstance(found, Segments)
    assert [one.annotations.text for one in found] == ["words"]
    cues = read_segments(Annotations(), {"vtt": ("a.vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello")}, Reading(keys))
    assert isinstance(cues, Segments)
    assert [one.annotations.text for one in cues] == ["Hello"]
