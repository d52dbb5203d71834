"""shared/wording.py: numbers, values and other libraries' errors in messages, as people write them."""

from __future__ import annotations

import pytest

from audio_tokenizers.shared.wording import counted, first_line, shown, size_words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 tars"), (1, "1 tar"), (2, "2 tars"), (1000, "1,000 tars"), (1_234_567, "1,234,567 tars")]
)
def test_one_is_no_plural(number: int, words: str) -> None:
    """`1 tar`, and thousands that can be read."""
    assert counted(number, "tar") == words


def test_a_plural_of_its_own() -> None:
    """Where an s does not make it."""
    assert (counted(1, "process", "processes"), counted(2, "process", "processes")) == ("1 process", "2 processes")


@pytest.mark.parametrize(
    ("value", "words"), [(None, "nothing"), (True, "true"), (False, "false"), (3, "3"), ("a b", "'a b'"), ([1], "[1]")]
)
def test_values_as_their_file_has_them(value: object, words: str) -> None:
    """Python's None, True and False are in no file of a person's."""
    assert shown(value) == words


def test_null_of_an_option() -> None:
    """An option that was given as null was given."""
    assert shown(None, "null") == "null"


def test_sizes() -> None:
    """In the largest unit that fits."""
    assert [size_words(size) for size in (12, 1500, 2 * 10**6, 3.5 * 10**9, 10**13)] == [
        "12 bytes", "1.5 kB", "2.0 MB", "3.5 GB", "10.0 TB"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "most", "words"),
    [
        ("one\ntwo", None, "one"),
        ("\n  \n  one  \ntwo", None, "one"),
        ("", None, "ValueError"),
        (" \n", None, "ValueError"),
        ("abcdef", 3, "abc"),
    ],
)
def test_first_line(message: str, most: int | None, words: str) -> None:
    """Of a message of many lines only the first is quoted, and there is always a word to quote."""
    assert first_line(ValueError(message), most) == words
