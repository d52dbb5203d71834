"""jobs/record_fields.py: what a backend gives becomes JSON that is right, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.envelope import FIELDS, envelope

from audio_tokenizers.base import Field, Values
from jobs.record_fields import FeatureRef, array_fault, check_counts, feature_refs, to_json, value_keys, values_fault

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=10, samples_per_item=100),)


def raw(json_of: dict[str, bytes]) -> dict[str, msgspec.Raw]:
    return {key: msgspec.Raw(text) for key, text in json_of.items()}


def values(samples: int = 35) -> Values:
    return envelope(np.random.default_rng(0).uniform(-1, 1, samples))


def test_each_form_has_its_text() -> None:
    """A grid with its shape, a flat list, a string of numbers in brackets, a reference to floats."""
    assert to_json(CODES, {"tokens": np.array([[1, 2, 3], [4, 5, 6]], np.int16)}, 0)[0] == {
        "tokens": b"[[1,2,3],[4,5,6]]",
        "token_shape": b"[2,3]",
    }
    text, features = to_json(FIELDS, values(), 7)
    assert list(text) == value_keys(FIELDS) == ["tokens", "levels", "envelope", "sum"]
    assert text["tokens"].startswith(b'"<audio_')
    assert len(json.loads(text["levels"])) == 3
    assert json.loads(text["envelope"])["key"] == "7/envelope"
    assert [ref for ref, _ in features] == feature_refs(FIELDS, raw(text))
    assert [ref.size for ref, _ in features] == [4 * 2 * 2, 4]


@given(samples=st.integers(10, 200), index=st.integers(0, 10**6))
def test_what_is_written_is_right(samples: int, index: int) -> None:
    """Arrays as declared have no fault, nor has the text made of them, whose counts fit the clip."""
    given_values = envelope(np.random.default_rng(samples).uniform(-1, 1, samples))
    assert array_fault(FIELDS, given_values) is None
    text = raw(to_json(FIELDS, given_values, index)[0])
    assert values_fault(FIELDS, text) is None
    assert check_counts(FIELDS, text, samples) is None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("tokens", np.array([256])),
        ("tokens", np.array([-1])),
        ("tokens", np.array([], np.int64)),
        ("tokens", np.array([1.0])),
        ("tokens", np.array([[1]])),
        ("levels", np.array([99, 100, 101])),
        ("levels", np.array([356, 100, 101])),
        ("envelope", np.zeros((4, 2), np.float32)),
        ("envelope", np.zeros((4, 3), np.float16)),
        ("envelope", np.zeros((0, 2), np.float16)),
        ("envelope", np.zeros(4, np.float16)),
    ],
)
def test_arrays_that_break_the_declaration(name: str, array: np.ndarray[Any, Any]) -> None:
    """Another type, shape or range than declared would make every record wrong: it is named."""
    fault = array_fault(FIELDS, {**values(), name: array})
    assert fault is not None
    assert name in fault


def test_arrays_under_other_keys() -> None:
    """All keys must be there, in their order, and no others."""
    good = values()
    assert array_fault(FIELDS, dict(reversed(list(good.items())))) is not None
    assert array_fault(FIELDS, {"tokens": good["tokens"]}) is not None
    assert array_fault(FIELDS, {**good, "more": good["tokens"]}) is not None
    assert array_fault(CODES, {"tokens": np.zeros((3, 4), np.int64)}) is not None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tokens", b'"<audio_256>"'),
        ("tokens", b'""'),
        ("tokens", b'"<audio_1><audio_>"'),
        ("tokens", b'"<audio_01>"'),
        ("tokens", b'"<audio_1> <audio_2>"'),
        ("tokens", b'"<audio_' + b"9" * 30 + b'>"'),
        ("tokens", b"[1,2]"),
        ("levels", b"[100, 101, 102]"),
        ("levels", b"[99,100,101]"),
        ("levels", b"[]"),
        ("levels", b"[[100],[101],[102]]"),
        ("levels", b"[100,[101],102]"),
        ("levels", b"[100.0,101,102]"),
        ("levels", b"[true,101,102]"),
        ("levels", b"null"),
        ("envelope", b'{"key":"7/envelope","shape":[4,2],"dtype":"float32","crc32":1}'),
        ("envelope", b'{"key":"7/envelope","shape":[4,3],"dtype":"float16","crc32":1}'),
        ("envelope", b'{"key":"7/envelope","shape":[0,2],"dtype":"float16","crc32":1}'),
        ("envelope", b'{"key":"7/envelope","shape":[4,2],"dtype":"float16"}'),
        ("envelope", b'{"key":"7/envelope", "shape":[4,2],"dtype":"float16","crc32":1}'),
        ("envelope", b"[1]"),
    ],
)
def test_text_that_was_not_written_so(key: str, text: bytes) -> None:
    """Out of range, of another form, or spelt otherwise than we do: a fault that names the key."""
    good = to_json(FIELDS, values(), 7)[0]
    assert values_fault(FIELDS, raw({**good, key: text})) is not None


@pytest.mark.parametrize(
    "shape", [b"[2,2]", b"[3,2]", b"[2, 3]", b"[2]", b"[2,03]", b"[2,0]", b"null", b"[2,3,1]", b"[2,-3]"]
)
def test_shapes_that_do_not_fit(shape: bytes) -> None:
    """The shape of a grid is its own, spelt as we do."""
    text = raw({"tokens": b"[[1,2,3],[4,5,6]]", "token_shape": shape})
    assert values_fault(CODES, text) is not None
    assert values_fault(CODES, raw({"tokens": b"[[1,2,3],[4,5,6]]", "token_shape": b"[2,3]"})) is None


def test_keys_that_do_not_fit() -> None:
    """A record of another backend is not one of this."""
    assert values_fault(FIELDS, raw({"tokens": b"[[1]]", "token_shape": b"[1,1]"})) is not None
    assert values_fault(CODES, raw(to_json(FIELDS, values(), 0)[0])) is not None


def test_counts_that_do_not_fit_the_clip() -> None:
    """Audio that is missing shows in each key that has a rate; a key of fixed size has that size."""
    text = raw(to_json(FIELDS, values(35), 0)[0])
    assert check_counts(FIELDS, text, 35) is None
    assert check_counts(FIELDS, text, 37) is None
    assert check_counts(FIELDS, text, 38) == "38 samples became 35 tokens, expected about one per 1"
    long = {**text, "tokens": raw(to_json(FIELDS, values(100), 0)[0])["tokens"]}
    assert check_counts(FIELDS, long, 100) == "100 samples became 4 rows, expected about one per 10"
    short = {**text, "levels": msgspec.Raw(b"[100,101]")}
    assert check_counts(FIELDS, short, 35) == "levels has 2 items, expected 3"
    codes = raw({"tokens": b"[[1,2,3],[4,5,6]]", "token_shape": b"[2,3]"})
    assert check_counts(CODES, codes, 300) is None
    assert check_counts(CODES, codes, 501) == "501 samples became 3 frames, expected about one per 100"


def test_a_reference_knows_its_bytes() -> None:
    """Checksum and size are of the bytes as they are written, whatever the array's layout in memory."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert FeatureRef.of(array, "0/a") == FeatureRef.of(np.asfortranarray(array), "0/a")
    assert FeatureRef.of(array, "0/a").size == len(array.tobytes())
