"""tools/packing/layouts/subtitle_files.py: whose subtitles are, and what they say of a recording."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.made_trees import audio_of, left_out_of, read_everywhere
from support.sentences import SENTENCES

from jobs.sidecars import LARGEST_SIDECAR, too_large
from jobs.text_encoding import decode_text
from jobs.text_rules import TextRules
from tools.packing.layouts import subtitle_files
from tools.packing.layouts.subtitle_files import SEVERAL, pair_subtitles, with_cues
from tools.packing.layouts.tables import Annotated
from tools.packing.pairs import LeftOut

HELLO = {"start": 1.0, "end": 2.5, "id": "1", "text": "Hello"}


def srt(text: str = "Hello") -> str:
    return f"1\n00:00:01,000 --> 00:00:02,500\n{text}\n"


def vtt(text: str = "Hello") -> str:
    return f"WEBVTT\n\n00:01.000 --> 00:02.500\n{text}\n"


def test_a_tree_with_subtitles(tmp_path: Path) -> None:
    """In folders and archives alike: the recording stays whole and has their cues as segments, beside what else is said."""
    files = {
        **audio_of("talk/a.mp3", "talk/b.m4a", "c.mp3", "d.wav", "e.wav", "f.wav", "g.wav"),
        "talk/a.srt": srt(),
        "talk/b.en.vtt": vtt("<v Ann>Hello &amp; bye"),
        "talk/b.txt": "all of it",
        "c.mp3.srt": srt(),
        "d.json": '{"speaker": "D", "text": "whole"}',
        "d.vtt": vtt(),
        "e.json": '{"segments": [{"start": 5, "end": 6, "text": "own"}]}',
        "e.srt": srt(),
        "f.de.srt": srt(),
        "f.en.srt": srt(),
        "f.txt": "f",
        "g.srt": "no cues",
        "alone.srt": srt(),
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name: (pair.text, pair.text_name, pair.metadata) for name, pair in pairs.items()} == {
        "talk/a": (None, "talk/a.srt", {"segments": [HELLO]}),
        "talk/b": (
            "all of it",
            "talk/b.txt",
            {"segments": [{"start": 1.0, "end": 2.5, "speaker": "Ann", "text": "Hello & bye"}]},
        ),
        "c": (None, "c.mp3.srt", {"segments": [HELLO]}),
        "d": ("whole", "d.json", {"speaker": "D", "segments": [{"start": 1.0, "end": 2.5, "text": "Hello"}]}),
        "e": (None, None, {"segments": [{"start": 5, "end": 6, "text": "own"}]}),
        "f": ("f", "f.txt", None),
    }
    assert left_out_of(left_out) == [
        ("subtitles", "f.de.srt"),
        ("subtitles", "f.en.srt"),
        ("text_without_audio", "alone.srt"),
        ("unreadable_text", "g.wav"),
    ]


def test_encodings_are_told_from_all_texts(tmp_path: Path) -> None:
    """Those of subtitles among them, in folders and archives; or a person says it."""
    files: dict[str, bytes | str] = {**audio_of("a.wav", "b.wav")}
    files |= {"a.srt": srt("はい").encode("shift_jis"), "b.vtt": vtt(" ".join(SENTENCES["ja"])).encode("shift_jis")}
    pairs, _ = read_everywhere(tmp_path, files)
    assert [part["text"] for part in (pairs["a"].metadata or {})["segments"]] == ["はい"]
    (tmp_path / "said").mkdir()
    short: dict[str, bytes | str] = {name: files[name] for name in ("a.wav", "a.srt")}
    pairs, _ = read_everywhere(tmp_path / "said", short, texts=TextRules(encoding="cp932"))
    assert [part["text"] for part in (pairs["a"].metadata or {})["segments"]] == ["はい"]
    (tmp_path / "alone").mkdir()
    pairs, left_out = read_everywhere(tmp_path / "alone", short)
    assert (pairs, left_out_of(left_out)) == ({}, [("unreadable_text", "a.wav")])
    assert left_out[0].detail.startswith("a.srt: too little text to tell")


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["a.srt", "a.vtt"], "a.vtt"),
        (["a.en.srt", "a.srt"], "a.srt"),
        (["a.en.vtt", "a.srt"], "a.en.vtt"),
        (["a.de.vtt", "a.en.vtt", "a.srt"], "a.srt"),
        (["a.mp3.srt", "a.srt"], "a.mp3.srt"),
        (["A.SRT"], "A.SRT"),
        (["a.zh-Hans.vtt"], "a.zh-Hans.vtt"),
        (["a.5_x.srt"], None),
        (["a.de.srt", "a.en.srt"], None),
    ],
)
def test_which_counts(names: list[str], own: str | None) -> None:
    """WebVTT before SubRip, the audio's own name before one with a language, of which there has to be one alone. All others
    are left out, with the reason.
    """
    found, left_out = pair_subtitles(names, {"a": "a.mp3"}, set())
    assert found == ({} if own is None else {"a": own})
    assert sorted(left.name for left in left_out) == sorted(set(names) - {own})
    for left in left_out:
        assert left in (
            LeftOut("duplicate", left.name, f"{own} is taken"),
            LeftOut("subtitles", left.name, SEVERAL),
            LeftOut("text_without_audio", left.name),
        )


def test_names_that_tell_nothing() -> None:
    """Two that look alike are named with each other; of names that differ in case alone the first is taken."""
    found, left_out = pair_subtitles(["A.srt", "Ä.srt", "A\u0308.srt"], {"ä": "ä.mp3"}, set())
    assert found == {}
    assert [(left.reason, left.detail) for left in left_out if left.name == "Ä.srt"] == [
        ("text_without_audio", "A\u0308.srt and Ä.srt look alike")
    ]
    found, left_out = pair_subtitles(["a.SRT", "a.srt", "a.srt"], {"a": "a.mp3"}, set())
    assert (found, left_out) == ({"a": "a.SRT"}, [LeftOut("duplicate", "a.srt", "a.SRT is taken")] * 2)


def test_any_names_are_somebodys_or_left_out() -> None:
    """Each of them once."""
    chance = random.Random(6)
    endings = [".srt", ".vtt", ".SRT", ".en.srt", ".de.vtt", ".mp3.srt", ".x.y.srt"]
    for _ in range(500):
        names = [chance.choice("aAbB") + chance.choice(endings) for _ in range(chance.randrange(8))]
        audio = {stem: f"{stem}.mp3" for stem in chance.sample(["a", "A", "b", "a.en"], 2)}
        found, left_out = pair_subtitles(names, audio, {"b"})
        taken = list(dict.fromkeys(found.values()))
        assert sorted([*taken, *(left.name for left in left_out)]) == sorted(names)


def test_subtitles_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is said stays, and the fault stands with others."""
    said = Annotated("text", "a.txt", None, {"sidecar_errors": ["a.json: bad"]})
    monkeypatch.setattr(subtitle_files, "MOST_SEGMENTS", 2)
    monkeypatch.setattr(subtitle_files, "LARGEST_ROW", 150)
    for content, words in (
        (b"WEBVTT\n", "no cues in it"),
        (bytes(LARGEST_SIDECAR + 1), too_large()),
        ("\n".join([srt()] * 3).encode(), "more than 2 cues"),
        (srt("x" * 200).encode(), "its cues take 244 bytes as JSON, more than 150"),
        (b"\x01\xff\x81", "in no encoding that is known"),
    ):
        found = with_cues(said, "a.srt", content, decode_text)
        assert (found.text, found.text_name) == ("text", "a.txt")
        assert found.metadata is not None
        assert found.metadata.keys() == {"sidecar_errors"}
        first, second = found.metadata["sidecar_errors"]
        assert first == "a.json: bad"
        assert second.startswith(f"a.srt: {words}")


def test_times_that_are_none_stay_for_the_run_to_judge() -> None:
    """As beside the same audio in a tar, that segment alone becomes an error."""
    found = with_cues(Annotated(), "a.srt", (srt() + "\n2\n00:00:03,000 --> soon\nbye\n").encode(), decode_text)
    assert (found.metadata or {})["segments"] == [HELLO, {"start": 3.0, "end": "soon", "id": "2", "text": "bye"}]
    msgspec.json.encode(found.metadata)


def test_segments_of_the_json_count_more() -> None:
    """So does NeMo's `offset`."""
    both: list[dict[str, Any]] = [{"segments": []}, {"offset": 1.5}]
    for metadata in both:
        said = Annotated(None, None, None, metadata)
        assert with_cues(said, "a.srt", srt().encode(), decode_text) == said
