"""jobs/token_arrays.py: JSON that values became turns back into the same arrays, and nothing else turns into any."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_tokenizers.base import Field, Form
from jobs.record_fields import FeatureRef, to_json
from jobs.token_arrays import forms_of, read_integers, read_ref, split_integers

FIELDS = (
    Field(name="tokens", form="codes", width=2, codebook_size=1 << 30),
    Field(name="global_tokens", form="list", codebook_size=1 << 30),
    Field(name="merged", form="audio_string", codebook_size=1 << 30),
    Field(name="mid", form="features", width=3, dtype="float16"),
)

widths = st.sampled_from([1, 9, 1023, 8191, 65_535, 10_000_000, (1 << 30) - 1])


def written(codes: list[int]) -> dict[str, bytes]:
    """A record's JSON with these integers under each key."""
    array = np.array(codes, np.int64)
    floats = np.zeros((1, 3), np.float16)
    values: dict[str, npt.NDArray[Any]] = {
        "tokens": np.stack([array, array]),
        "global_tokens": array,
        "merged": array,
        "mid": floats,
    }
    return to_json(FIELDS, values, 0)[0]


@settings(max_examples=60)
@given(st.lists(widths.flatmap(lambda top: st.lists(st.integers(0, top), min_size=1, max_size=9)), min_size=1, max_size=5))
@pytest.mark.slow
def test_integers_come_back_as_they_were(clips: list[list[int]]) -> None:
    """Whatever numbers a batch of records holds, of one digit or ten, in whatever form: the arrays are those written."""
    records = [written(codes) for codes in clips]
    shapes = [record["token_shape"] for record in records]
    forms: list[tuple[str, Form]] = [("global_tokens", "list"), ("merged", "audio_string")]
    for key, form in forms:
        arrays = split_integers(*read_integers([record[key] for record in records], form), None)
        assert [array.tolist() for array in arrays] == clips
    arrays = split_integers(*read_integers([record["tokens"] for record in records], "codes"), shapes)
    assert [array.tolist() for array in arrays] == [[codes, codes] for codes in clips]
    assert all(array.dtype == np.int64 for array in arrays)


@pytest.mark.parametrize("text", [b"[1,x]", b"[1,,2]", b"[]", b"[1.5]", b"[-1]", b"[ 1]", b'"1"', b"[1,null]", b"[1e3]"])
def test_anything_else_is_refused(text: bytes) -> None:
    """What is no list of plain integers is an error, also in the midst of good records, and never another number."""
    with pytest.raises(ValueError, match=r"expected (an integer|integers)"):
        read_integers([b"[1,2]", text, b"[3]"], "list")


def test_shape_that_does_not_fit_is_refused() -> None:
    """Codes are never cut up by a shape that speaks of other codes."""
    with pytest.raises(ValueError, match="reshape"):
        split_integers(*read_integers([b"[[1,2],[3,4]]"], "codes"), [b"[2,3]"])


def test_forms_show_in_the_json_itself() -> None:
    """A merged file has no spec beside it: its records alone say what their keys are."""
    values = {key: msgspec.Raw(text) for key, text in written([1, 2]).items()}
    assert forms_of(values) == {"tokens": "codes", "global_tokens": "list", "merged": "audio_string", "mid": "features"}
    with pytest.raises(ValueError, match="speaker: expected tokens, found 7"):
        forms_of({"speaker": msgspec.Raw(b"7")})


def test_reference_to_floats() -> None:
    """Where floats stand is read by its type, and something else is named."""
    ref = FeatureRef.of(np.ones((2, 3), np.float32), "0/mid")
    assert read_ref(msgspec.json.encode(ref)) == ref
    with pytest.raises(ValueError, match="expected a reference to floats"):
        read_ref(b'{"key":"0/mid"}')
