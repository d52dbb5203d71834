"""tools/packing/layouts/audiobooks.py: the tables of LibriSpeech and LJSpeech."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from audio_tokenizers.errors import UsageError
from tools.packing.layouts.table_lines import NO_TEXT
from tools.packing.layouts.tree import Annotated, Plan, plan_tree
from tools.packing.pairs import LeftOut, SourceOptions


def options(*, without_text: bool = False) -> SourceOptions:
    return SourceOptions(without_text=without_text, scratch=Path("scratch"))


def left_out(plan: Plan) -> list[tuple[str, str]]:
    return [(left.name, left.reason) for left in plan.left_out]


def test_librispeech() -> None:
    """Chapters below any folder: each clip has its line; lines without audio and clips without a line are named."""
    table = "LibriSpeech/dev/84/121123/84-121123.trans.txt"
    names = [f"LibriSpeech/dev/84/121123/84-121123-{number:04}.flac" for number in range(3)] + [
        table,
        "LibriSpeech/README.TXT",
    ]
    plan = plan_tree(names, options())
    assert left_out(plan) == [("LibriSpeech/README.TXT", "text_without_audio")]
    assert [item.texts for item in plan.items] == [(table,)] * 3
    assert plan.layout.tables == {table}
    content = b"84-121123-0000 GO DO YOU HEAR\n84-121123-0001\n84-121123-0000 AGAIN\r\n\n84-121123-0009 NOBODY\n"
    said = [plan.layout.annotate(item, {table: content}) for item in plan.items]
    assert said[0] == Annotated("GO DO YOU HEAR")
    assert said[1:] == [
        LeftOut("empty_text", plan.items[1].audio, f"no text in {table}"),
        LeftOut("audio_without_text", plan.items[2].audio, f"no line in {table}"),
    ]
    below = "LibriSpeech/dev/84/121123/"
    assert plan.layout.shelf.read(lambda _: io.BytesIO(content)) == [
        LeftOut("duplicate", f"{below}84-121123-0000", f"line 3 of {table}: an earlier line is taken"),
        LeftOut("text_without_audio", f"{below}84-121123-0009", f"line 5 of {table}"),
    ]


def test_ljspeech() -> None:
    """The normalised text is the clip's, for it is what is spoken; the raw one stays in the metadata if it is another."""
    names = ["LJ/metadata.csv", "LJ/README", *(f"LJ/wavs/LJ001-000{number}.wav" for number in range(4)), "LJ/wavs/own.wav"]
    plan = plan_tree([*names, "LJ/wavs/own.lab"], options(without_text=True))
    content = 'LJ001-0000|in "1963"|in "nineteen sixty-three"\nLJ001-0001|same|same\nLJ001-0002|raw alone|\nown|x|y\n'
    left = plan.layout.shelf.read(lambda _: io.BytesIO(b"\xef\xbb\xbf" + content.encode()))
    assert left == []
    said = [plan.layout.annotate(item, {"LJ/wavs/own.lab": "自己".encode("gb18030")}) for item in plan.items]
    assert said == [
        Annotated('in "nineteen sixty-three"', metadata={"raw_text": 'in "1963"'}),
        Annotated("same"),
        Annotated("raw alone"),
        Annotated(),
        Annotated("自己", "LJ/wavs/own.lab"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a|1|one|more\n", r"metadata\.csv: line 1: expected the lines of LJSpeech.*found 'a|1|one|more'"),
        (b"a|\xff\xff", r"metadata\.csv: line 1: expected a table of texts.*--text-encoding"),
    ],
)
def test_a_table_of_another_kind_is_an_error(content: bytes, words: str) -> None:
    """What cannot be a line of the table is named: going on would give clips a wrong text, or none."""
    plan = plan_tree(["metadata.csv", "wavs/a.wav"], options())
    with pytest.raises(UsageError, match=words):
        plan.layout.annotate(plan.items[0], {"metadata.csv": content})


def test_one_bad_line_is_one_bad_line() -> None:
    """Of LJSpeech and of LibriSpeech: what is no text, or no line of the table, is named with its number."""
    plan = plan_tree(["metadata.csv", "wavs/a.wav", "wavs/b.wav"], options())
    content = b"\x01\xff\x81|x\na|1|one\nfile_name,text\n\nb|\x01\xff\x81|two\nb|2|two\n"
    assert plan.layout.shelf.read(lambda _: io.BytesIO(content)) == [
        LeftOut("unreadable_text", "line 1 of metadata.csv", NO_TEXT),
        LeftOut(
            "unreadable_text",
            "line 3 of metadata.csv",
            "expected the lines of LJSpeech, `id|text|normalised text`, found 'file_name,text'",
        ),
        LeftOut("unreadable_text", "line 5 of metadata.csv", NO_TEXT),
    ]
    said = [plan.layout.annotate(item, {}) for item in plan.items]
    assert said == [Annotated("one", metadata={"raw_text": "1"}), Annotated("two", metadata={"raw_text": "2"})]
    plan = plan_tree(["1-2.trans.txt", "1-2-3.flac", "1-2-4.flac"], options())
    left = plan.layout.shelf.read(lambda _: io.BytesIO(b"1-2-3 GO\n1-2-4 \x01\xff\x81\n"))
    assert left == [LeftOut("unreadable_text", "line 2 of 1-2.trans.txt", NO_TEXT)]
    assert plan.layout.annotate(plan.items[0], {}) == Annotated("GO")
