"""jobs/foreign_json.py: JSON as Python writes it is read; what strict JSON cannot say is named and costs nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.foreign_json import non_finite_numbers, read_json, read_json_object, without_surrogates


def test_strict_json_is_as_it_stands() -> None:
    """Nothing is named, integers of any usual length are exact, and the last of equal keys counts."""
    text = '{"a": [1, 2.5, null, true], "big": 123456789012345678901234567890, "a": "again \\ud83d\\ude00"}'
    assert read_json(text) == ({"a": "again 😀", "big": 123456789012345678901234567890}, [])


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ('{"text": "x", "snr": NaN}', {"text": "x", "snr": None}, ["snr: NaN is no value of JSON: null"]),
        ('{"a": {"b": [1, -Infinity]}}', {"a": {"b": [1, None]}}, ["a.b[1]: -Infinity is no value of JSON: null"]),
        ('{"a": 1e999}', {"a": None}, ["a: 1e999 is no value of JSON: null"]),
        (f'{{"a": -{"9" * 5000}}}', {"a": None}, ["a: an integer of 5,000 digits is no value of JSON: null"]),
        ('{"text": "a\\ud83dz"}', {"text": "a\ufffdz"}, ["text: a lone surrogate is no character: U+FFFD"]),
        ('{"k\\udc00": 1}', {"k\ufffd": 1}, ["k\ufffd: a lone surrogate is no character: U+FFFD"]),
        ('{"text": "a\tb\nc\x01"}', {"text": "a\tb\nc\x01"}, []),
        ('{"a": 1, "a": NaN, "b": 2}', {"a": None, "b": 2}, ["a: NaN is no value of JSON: null"]),
        (
            '{"f0": [NaN, NaN, 1.0, NaN, NaN]}',
            {"f0": [None, None, 1.0, None, None]},
            ["f0[0], f0[1], f0[3] and 1 more: NaN is no value of JSON: null"],
        ),
    ],
)
def test_what_python_writes(text: str, value: dict[str, Any], words: list[str]) -> None:
    """All else of the object is kept, and each kind of thing that JSON cannot say is named once, with its first keys."""
    assert read_json_object(text) == (value, words)
    msgspec.json.encode(value)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '{"a": 1,}', '{"a": 1} x', "nan", '{"a": \\x}', "[1] // c"])
def test_what_python_does_not_read_either(text: str) -> None:
    """It is one kind of error."""
    with pytest.raises(msgspec.DecodeError):
        read_json(text)


@pytest.mark.parametrize("inside", ["1", "NaN"])
def test_depth(inside: str) -> None:
    """Up to 100 deep it is read; deeper, whoever reads our lines might give up, and so do we, at any depth."""
    assert read_json("[" * 100 + inside + "]" * 100)
    for depth in (101, 5_000, 100_000):
        with pytest.raises(msgspec.DecodeError, match="nested more than 100 deep"):
            read_json("[" * depth + inside + "]" * depth)


def test_only_objects_where_an_object_is_wanted() -> None:
    """Anything else is an error that says what it is."""
    with pytest.raises(msgspec.DecodeError, match="expected a JSON object, found list"):
        read_json_object("[NaN]")


def test_surrogates() -> None:
    """Lone ones are replaced, whole characters are not."""
    assert without_surrogates("a\udcffb😀") == "a\ufffdb😀"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), values, max_size=4), st.booleans())
def test_whatever_python_writes_can_be_a_line(data: dict[str, Any], ascii_only: bool) -> None:
    """json.dumps of anything comes back such that it can be written, and unchanged where nothing is named."""
    text = json.dumps(data, ensure_ascii=ascii_only)
    found, words = read_json_object(text)
    again = json.loads(msgspec.json.encode(found))
    if not words:
        assert again == data


def test_damaged_json_is_read_or_refused() -> None:
    """Ten thousand pieces of JSON, mixed with a fixed seed: each is a value that can be written, or a DecodeError."""
    rng = random.Random(13)
    words = [
        '{"a":',
        "NaN",
        "-Infinity",
        "[",
        "]",
        "}",
        ",",
        '"',
        "\\ud800",
        "\\u00e9",
        "1e400",
        "\x00",
        "\ud83d",
        "9" * 50,
        "null",
        "x",
    ]
    read = 0
    for _ in range(10_000):
        text = "".join(rng.choice(words) for _ in range(rng.randrange(12)))
        try:
            found, _ = read_json(text)
        except msgspec.DecodeError:
            continue
        read += 1
        msgspec.json.encode(found)
    assert read > 100


def test_where_numbers_are_that_json_has_not() -> None:
    """In the words of `read_json`, at any depth that JSON may have, with no more names than it gives."""
    nan, inf = float("nan"), float("inf")
    assert non_finite_numbers({"a": 1.5, "b": [nan, {"c": nan}], "d": inf, "e": "NaN", "f": None}) == [
        "b[0], b[1].c: NaN is no value of JSON: null",
        "d: Infinity is no value of JSON: null",
    ]
    assert non_finite_numbers([nan] * 1000) == ["[0], [1], [2] and 997 more: NaN is no value of JSON: null"]
    assert non_finite_numbers({"a": [1.0, "x", True, 10**400]}) == []
    deep: list[Any] = [nan]
    for _ in range(5000):
        deep = [deep]
    assert non_finite_numbers(deep) == []
