"""tools/packing/layouts/tree.py: which files belong together, and what the texts among them say."""

from __future__ import annotations

import io
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.audio_formats import AUDIO_EXTENSIONS
from tools.packing.layouts.tree import Annotated, Plan, Planned, is_table_name, plan_tree
from tools.packing.pairs import LeftOut, SourceOptions


def options(*exclude: str, without_text: bool = False) -> SourceOptions:
    return SourceOptions(exclude=exclude, without_text=without_text, scratch=Path("scratch"))


def left_out(plan: Plan) -> list[tuple[str, str]]:
    return [(left.name, left.reason) for left in plan.left_out]


def test_pairs_by_stem() -> None:
    """A stem is everything before the last dot, in its folder; extensions may be in capitals; items come sorted by id."""
    names = ["b/1.5_x.WAV", "b/1.5_x.lab", "b/1.5_y.wav", "b/1.5_y.Txt", "a.flac", "a.json", "a.txt", "c/a.lab", "b/1.lab"]
    plan = plan_tree(names, options())
    assert plan.items == (
        Planned("a", "a.flac", ("a.json", "a.txt")),
        Planned("b/1.5_x", "b/1.5_x.WAV", ("b/1.5_x.lab",)),
        Planned("b/1.5_y", "b/1.5_y.wav", ("b/1.5_y.Txt",)),
    )
    assert left_out(plan) == [("b/1.lab", "text_without_audio"), ("c/a.lab", "text_without_audio")]
    assert plan.found == {".wav": 2, ".lab": 3, ".txt": 2, ".flac": 1, ".json": 1}


def test_a_share_of_the_clips() -> None:
    """By id; texts of the others are theirs still. A larger share contains a smaller one."""
    names = [f"a/{number}.{ending}" for number in range(40) for ending in ("wav", "txt")]
    found: list[set[str]] = []
    for ratio in (0.2, 0.5, 1.0):
        plan = plan_tree(names, SourceOptions(subset_ratio=ratio, scratch=Path("scratch")))
        found.append({item.id for item in plan.items})
        assert {left.reason for left in plan.left_out} <= {"outside_subset"}
        assert len(plan.items) + len(plan.left_out) == 40
    assert set() < found[0] < found[1] < found[2]


def test_names_that_are_nearly_equal() -> None:
    """A text may be called by the audio's whole name, or differ in case or in how a letter is made; equal ones win."""
    nfd = unicodedata.normalize("NFD", "é")
    names = ["x.mp3", "x.mp3.json", "Case.FLAC", "case.json", f"{nfd}.wav", "é.txt", "y.wav", "Y.lab", "y.lab", "Y.wav"]
    plan = plan_tree(names, options())
    assert {item.audio: item.texts for item in plan.items} == {
        "x.mp3": ("x.mp3.json",),
        "Case.FLAC": ("case.json",),
        f"{nfd}.wav": ("é.txt",),
        "Y.wav": ("Y.lab",),
        "y.wav": ("y.lab",),
    }
    assert plan.left_out == ()
    doubtful = plan_tree(["Case.flac", "case.json", "CASE.json"], options())
    assert doubtful.items == ()
    assert doubtful.left_out[1:] == (
        LeftOut("audio_without_text", "Case.flac", "CASE.json and case.json look alike"),
        LeftOut("text_without_audio", "case.json"),
    )


def test_of_two_files_for_one_place_the_first_is_taken() -> None:
    """Two audio files of one stem, two texts that differ in case, and a name that comes twice are listed as duplicates."""
    plan = plan_tree(["x.wav", "x.mp3", "x.LAB", "x.lab", "x.txt", "y.wav", "y.wav", "y.lab"], options())
    assert plan.items == (Planned("x", "x.mp3", ("x.LAB", "x.txt")), Planned("y", "y.wav", ("y.lab",)))
    assert left_out(plan) == [("x.lab", "duplicate"), ("x.wav", "duplicate"), ("y.wav", "duplicate")]


def test_what_macos_leaves_behind_is_nothing() -> None:
    """AppleDouble files, .DS_Store and __MACOSX are neither items, nor left out, nor found."""
    plan = plan_tree(["._x.wav", "a/._x.lab", "a/.DS_Store", "__MACOSX/a/x.wav", "a/__MACOSX/x.lab", ".wav"], options())
    assert (plan.items, plan.left_out, plan.found) == ((), (), {"without extension": 1})


def test_subtitles_beside_audio() -> None:
    """They are its own, whether it has another text or none; of others it is said why they are nobody's."""
    names = ["a.mp3", "a.srt", "b.mp3", "b.txt", "b.en.VTT", "c.mp3", "c.vtt", "d.vtt", "e.wav", "e.srt"]
    plan = plan_tree(names, options("c.vtt", "e.wav"))
    assert plan.items == (Planned("a", "a.mp3", (), "", "a.srt"), Planned("b", "b.mp3", ("b.txt",), "", "b.en.VTT"))
    assert left_out(plan) == [
        ("c.mp3", "audio_without_text"),
        ("c.vtt", "excluded"),
        ("d.vtt", "text_without_audio"),
        ("e.srt", "excluded"),
        ("e.wav", "excluded"),
    ]
    cue = b"1\n00:00:01,000 --> 00:00:02,500\nHello\n"
    said = [plan.layout.annotate(item, {"a.srt": cue, "b.txt": b"all", "b.en.VTT": cue}) for item in plan.items]
    segments = {"segments": [{"start": 1.0, "end": 2.5, "id": "1", "text": "Hello"}]}
    assert said == [Annotated(None, "a.srt", None, segments), Annotated("all", "b.txt", None, segments)]
    bad = b"1\n00:00:01,000 - 00:00:02,500\nHello\n"
    said = [plan.layout.annotate(item, {"a.srt": bad, "b.txt": b"all", "b.en.VTT": bad}) for item in plan.items]
    assert said == [
        LeftOut("unreadable_text", "a.mp3", "a.srt: no cues in it"),
        Annotated("all", "b.txt", None, {"sidecar_errors": ["b.en.VTT: no cues in it"]}),
    ]


def test_subtitles_beside_audio_of_a_table() -> None:
    """The table says the text, and they the segments, also where it has no line."""
    plan = plan_tree(["metadata.csv", "wavs/a.wav", "wavs/a.srt", "wavs/b.wav", "wavs/b.srt"], options())
    cue = b"1\n00:00:01,000 --> 00:00:02,500\nHello\n"
    contents = {"metadata.csv": b"a|one\n", "wavs/a.srt": cue, "wavs/b.srt": cue}
    segments = {"segments": [{"start": 1.0, "end": 2.5, "id": "1", "text": "Hello"}]}
    assert [plan.layout.annotate(item, contents) for item in plan.items] == [
        Annotated("one", "wavs/a.srt", None, segments),
        Annotated(None, "wavs/b.srt", None, segments),
    ]


def test_excluded_pairs() -> None:
    """A glob takes audio and text; each file is listed, also the text of audio that alone is excluded."""
    names = ["n/Placeholder/a.wav", "n/Placeholder/a.lab", "n/b.wav", "n/b.lab", "n/c.wav", "n/c.lab"]
    plan = plan_tree(names, options("Placeholder", "b.wav", "c.lab"))
    assert left_out(plan) == [
        ("n/Placeholder/a.lab", "excluded"),
        ("n/Placeholder/a.wav", "excluded"),
        ("n/b.lab", "excluded"),
        ("n/b.wav", "excluded"),
        ("n/c.lab", "excluded"),
        ("n/c.wav", "audio_without_text"),
    ]
    assert plan.items == ()


def test_without_text() -> None:
    """Audio that has no text is left out, unless it is wanted."""
    assert left_out(plan_tree(["a.wav"], options())) == [("a.wav", "audio_without_text")]
    plan = plan_tree(["a.wav"], options(without_text=True))
    assert plan.items == (Planned("a", "a.wav", ()),)
    assert plan.layout.annotate(plan.items[0], {}) == Annotated()


def test_tables_that_nobody_needs() -> None:
    """Audio with a text of its own has it, and a table that no audio needs is not read."""
    plan = plan_tree(["metadata.csv", "wavs/a.wav", "wavs/a.lab", "b/metadata.csv", "1-2.trans.txt"], options())
    assert plan.items == (Planned("wavs/a", "wavs/a.wav", ("wavs/a.lab",)),)
    assert plan.layout.tables == frozenset()
    assert left_out(plan) == [("1-2.trans.txt", "text_without_audio")]
    plan = plan_tree(["d/1-2.trans.txt", "d/1-2.trans.wav", "d/1-2-3.wav"], options())
    assert plan.items == (Planned("d/1-2.trans", "d/1-2.trans.wav", ("d/1-2.trans.txt",)),)


def test_a_table_of_no_kind_that_is_known_costs_nothing_but_itself() -> None:
    """A metadata.csv without `wavs/` beside it is an audiofolder's by its first line; else it is named."""
    plan = plan_tree(["metadata.csv", "a.wav", "b/x.wav", "b/x.lab"], options())
    left = plan.layout.shelf.read(lambda _: io.BytesIO(b"speaker,hours\nA,7\n"))
    fault = "expected an audiofolder's column `file_name`, found 'speaker,hours'"
    assert left == [LeftOut("unreadable_text", "metadata.csv", fault)]
    said = [plan.layout.annotate(item, {"b/x.lab": b"hello"}) for item in plan.items]
    assert said == [
        LeftOut("audio_without_text", "a.wav", "no line in metadata.csv"),
        Annotated("hello", "b/x.lab"),
    ]


def test_the_text_of_one_clip_is_no_table_of_many() -> None:
    """`content.txt` beside `content.wav` is that clip's, whatever else there is."""
    plan = plan_tree(["content.wav", "content.txt", "wav/a.wav"], options())
    assert plan.items == (Planned("content", "content.wav", ("content.txt",)),)
    assert plan.layout.tables == frozenset()
    assert plan.layout.annotate(plan.items[0], {"content.txt": b"hello"}) == Annotated("hello", "content.txt")


def test_an_excluded_table_is_not_read() -> None:
    """--exclude metadata.csv is the way out where it is another kind of table; its clips then have no text."""
    plan = plan_tree(["metadata.csv", "wavs/a.wav"], options("metadata.csv"))
    assert left_out(plan) == [("metadata.csv", "excluded"), ("wavs/a.wav", "audio_without_text")]


def sidecars(contents: dict[str, bytes], *, without_text: bool = False) -> Annotated | LeftOut:
    plan = plan_tree(["x.wav", *contents], options(without_text=without_text))
    return plan.layout.annotate(plan.items[0], contents)


def test_sidecars_that_say_something() -> None:
    """JSON before .txt before .lab; the file that gave the text is named, and the rest of the JSON is metadata."""
    json = b'{"text": "json", "language": "zh", "speaker": 7}'
    assert sidecars({"x.json": json, "x.txt": b"txt"}) == Annotated("json", "x.json", "zh", {"speaker": 7})
    assert sidecars({"x.json": b'{"speaker": 7}', "x.txt": b"txt", "x.lab": b"lab"}) == Annotated(
        "txt", "x.txt", None, {"speaker": 7}
    )
    said = sidecars({"x.json": b"{", "x.LAB": b"lab"})
    assert isinstance(said, Annotated)
    assert (said.text, said.text_name) == ("lab", "x.LAB")
    assert said.metadata is not None
    assert "x.json" in said.metadata["sidecar_errors"][0]


def test_sidecars_that_say_nothing() -> None:
    """Empty and unreadable texts are told apart, and taken where audio without text is wanted."""
    assert sidecars({"x.lab": b" \n"}) == LeftOut("empty_text", "x.wav", "no text in x.lab")
    assert sidecars({"x.json": b'{"speaker": 7}'}) == LeftOut("empty_text", "x.wav", "no text in x.json")
    bad = sidecars({"x.lab": b"\xff\xff"})
    assert bad == LeftOut(
        "unreadable_text", "x.wav", "x.lab: too little text to tell in which encoding: say it with --text-encoding"
    )
    assert sidecars({"x.lab": b" \n"}, without_text=True) == Annotated("", "x.lab")
    assert sidecars({"x.json": b'{"speaker": 7}'}, without_text=True) == Annotated(metadata={"speaker": 7})


FOLDERS = st.sampled_from(["", "a/", "a/b/", "wavs/", "a/wavs/", "a/wav/", "clips/", "__MACOSX/", "P/"])
STEMS = st.sampled_from(
    [
        "x",
        "x.y",
        "x.normalized",
        "1-2-0001",
        "1-2-0002",
        "1-2.trans",
        "metadata",
        "content",
        "train",
        "cuts",
        "._x",
        "P",
        "-",
        "",
    ]
)
EXTENSIONS = st.sampled_from(
    [".wav", ".WAV", ".flac", ".lab", ".LAB", ".txt", ".TXT", ".json", ".csv", ".tsv", ".jsonl", ".pdf", ""]
)
TREES = st.lists(st.tuples(FOLDERS, STEMS, EXTENSIONS).map("".join).filter(lambda name: not name.endswith("/")), unique=True)


@settings(max_examples=150)
@given(TREES, st.lists(st.sampled_from(["P", "*.lab", "x", "metadata.csv"]), unique=True), st.booleans(), st.randoms())
@pytest.mark.slow
def test_nothing_is_lost(names: list[str], exclude: list[str], without_text: bool, chance: random.Random) -> None:
    """Audio is in one item or left out once, a text is of items or left out once, and order does not matter."""
    wanted = options(*exclude, without_text=without_text)
    plan = plan_tree(names, wanted)
    shuffled = list(names)
    chance.shuffle(shuffled)
    again = plan_tree(shuffled, wanted)
    assert (again.items, again.left_out, again.found) == (plan.items, plan.left_out, plan.found)

    of_items = [item.audio for item in plan.items]
    of_items += {text for item in plan.items for text in item.texts}
    places = Counter([*of_items, *(left.name for left in plan.left_out)])
    assert set(places.values()) <= {1}
    for name in names:
        base = name.rpartition("/")[2]
        stem, _, extension = base.rpartition(".")
        matters = stem and extension.lower() in (*AUDIO_EXTENSIONS, "json", "txt", "lab")
        if matters and not base.startswith("._") and "__MACOSX" not in name:
            assert places.pop(name) == 1
    assert all(is_table_name(name.rpartition("/")[2]) for name in places)
    ids = [item.id for item in plan.items]
    assert ids == sorted(set(ids))
    shared = Counter(text for item in plan.items for text in item.texts)
    assert {text for text, number in shared.items() if number > 1} <= plan.layout.tables


def test_sound_beside_a_film_is_taken() -> None:
    """Where a film and a sound file have one stem, the sound is what somebody made of the film; a film alone is taken."""
    plan = plan_tree(["a.mov", "a.wav", "a.txt", "b.mkv", "b.txt"], options())
    assert [item.audio for item in plan.items] == ["a.wav", "b.mkv"]
    assert [(left.reason, left.name) for left in plan.left_out] == [("duplicate", "a.mov")]
