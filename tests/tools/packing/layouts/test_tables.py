"""tools/packing/layouts/tables.py: books, their rows, and which of them has a line for an audio."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from audio_tokenizers.errors import UsageError
from tools.packing.layouts.tables import (
    Annotated,
    Book,
    BookRows,
    Line,
    OtherKindError,
    Reading,
    Shelf,
    lines_of_kind,
    said_of,
)
from tools.packing.pairs import LeftOut


def read_words(book: Book, reading: Reading) -> Iterator[Line | LeftOut]:
    """Lines `key text`; a text of `!` stands for a table of another kind, `?` for a line that is none."""
    for name in book.tables:
        with reading.open_table(name) as file:
            for number, line in enumerate(file.read().decode().splitlines(), 1):
                key, _, text = line.partition(" ")
                if text == "!":
                    raise OtherKindError("expected words")
                where = f"line {number} of {name}"
                yield LeftOut("unreadable_text", where) if text == "?" else Line(key, Annotated(text), where)


def book(name: str, *, by_name: bool = False, scope: str = "") -> Book:
    return Book(f"layout of {name}", (name,), scope, read_words, by_name=by_name)


def rows(tmp_path: Path, content: str, stems: set[str], *, by_name: bool = False, scope: str = "") -> BookRows:
    reading = Reading(lambda _: io.BytesIO(content.encode()), tmp_path, stems)
    return BookRows(book("t", by_name=by_name, scope=scope), reading)


def test_the_first_line_of_an_audio_is_taken(tmp_path: Path) -> None:
    """Later ones, those without audio and those that are none are left out, each with its place."""
    found = rows(tmp_path, "a one\na two\nx gone\nb ?\n", {"a", "b"})
    assert (found.said("a"), found.said("b"), "a" in found, "b" in found, len(found)) == (
        Annotated("one"),
        None,
        True,
        False,
        1,
    )
    assert [(left.reason, left.name) for left in found.left_out] == [
        ("duplicate", "a"),
        ("text_without_audio", "x"),
        ("unreadable_text", "line 4 of t"),
    ]


def test_letters_that_are_composed_otherwise(tmp_path: Path) -> None:
    """A table from one file system finds the audio on another."""
    for composed, decomposed in (("\xe9", "e\u0301"), ("e\u0301", "\xe9")):
        assert rows(tmp_path, f"{composed} one\n", {decomposed}).said(decomposed) == Annotated("one")


def test_rows_by_name(tmp_path: Path) -> None:
    """A name holds for audio in any folder below, and for none elsewhere."""
    found = rows(tmp_path, "a one\nb two\n", {"d/x/a", "d/y/a", "e/b"}, by_name=True, scope="d")
    assert [found.said(stem) for stem in ("d/x/a", "d/y/a")] == [Annotated("one")] * 2
    assert [(left.reason, left.name) for left in found.left_out] == [("text_without_audio", "b")]


def test_a_table_of_another_kind(tmp_path: Path) -> None:
    """It has no rows, whatever came before, and is named itself."""
    found = rows(tmp_path, "a one\na !\n", {"a"})
    assert (len(found), found.left_out) == (0, [LeftOut("unreadable_text", "t", "expected words")])


def test_several_books(tmp_path: Path) -> None:
    """Of those that may have a line for an audio, the one that has it says it; two of different layouts are an error."""
    one, two = book("1"), book("2")
    contents = {"1": b"a one\n", "2": b"b two\n"}
    shelf = Shelf({("1", "2"): (one, two)}, ("a", "b"), tmp_path)
    assert shelf.tables == {"1", "2"}
    assert shelf.read(lambda name: io.BytesIO(contents[name])) == []
    contents.clear()
    said = [shelf.said(("1", "2"), stem, lambda name: io.BytesIO(contents[name])) for stem in "abc"]
    assert said == [Annotated("one"), Annotated("two"), None]
    both = Shelf({("1", "2"): (one, two)}, ("a",), tmp_path)
    with pytest.raises(UsageError, match=r"a: expected one layout, found two.*layout of 1 \(1\) and layout of 2 \(2\)"):
        both.read(lambda _: io.BytesIO(b"a one\n"))


def test_text_language_and_the_rest() -> None:
    """The first key with a string that is not empty is the text; what is empty is no metadata."""
    row = {"sentence": "two", "transcription": " ", "text": 5, "lang": "en", "age": "", "n": 0, "none": None}
    assert said_of(row) == Annotated("two", None, "en", {"transcription": " ", "text": 5, "n": 0})
    assert said_of({}) == Annotated()
    assert Annotated(" ").says_nothing
    assert Annotated(None, metadata={"segments": []}).says_nothing
    assert not Annotated(None, metadata={"segments": [{}]}).says_nothing


def test_the_first_line_that_can_be_read_shows_the_kind_of_a_table() -> None:
    """Lines that cannot be read decide nothing, and come last; later lines of another kind are bad lines."""
    bad, other = LeftOut("unreadable_text", "line 1", "no text"), OtherKindError("expected x, found y")
    assert list(lines_of_kind([("line 1", bad), ("line 2", "a"), ("line 3", other), ("line 4", "b")])) == [
        ("line 2", "a"),
        ("line 4", "b"),
        ("line 1", bad),
        ("line 3", LeftOut("unreadable_text", "line 3", "expected x, found y")),
    ]
    assert list(lines_of_kind([])) == []
    with pytest.raises(OtherKindError, match="expected x, found y"):
        list(lines_of_kind([("line 1", bad), ("line 2", other), ("line 3", "a")]))
    with pytest.raises(OtherKindError, match="no text"):
        list(lines_of_kind([("line 1", bad)]))
    with pytest.raises(OtherKindError, match="another table"):
        list(lines_of_kind([("line 1", bad)], "another table"))
