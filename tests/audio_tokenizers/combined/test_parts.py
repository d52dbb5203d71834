"""combined/parts.py: what a combination says of itself, what cannot be combined, and batches that each part calls exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from audio_tokenizers.base import BackendInfo, Batching, Field
from audio_tokenizers.combined.parts import combined_info, exact_batches, leader, record_keys
from audio_tokenizers.errors import UsageError
from audio_tokenizers.mulaw import FACTORY as MULAW


def info(name: str, *keys: str, **changes: Any) -> BackendInfo:
    """A backend of whole clips with a list per key."""
    settings: dict[str, Any] = {
        "sample_rate": 16000,
        "hop_length": 320,
        "mono": "mean",
        "min_samples": 1,
        "batching": Batching.SINGLE,
        "max_batch": 1,
        "recipe": {"weights_sha256": f"{name}'s"},
        **changes,
    }
    fields = tuple(Field(name=key, form="list", codebook_size=10) for key in keys or (name,))
    return BackendInfo(name=name, fields=fields, kind="clips", max_tokens_per_fragment=None, **settings)


TEXT = info("text", hop_length=1, needs_text=True)
LANES = info("lanes", batching=Batching.LANES, max_batch=4, hop_length=160)
UNITS = info("units", batching=Batching.ANY, max_batch=32, min_samples=201, hop_length=640)


def test_the_description_is_the_union() -> None:
    """Keys in the order of the parts, each part's recipe under its name, the longest of the shortest clips, and a text if
    one of them needs it.
    """
    found = combined_info("text+units", [TEXT, UNITS])
    assert [field.name for field in found.fields] == ["text", "units"]
    assert found.recipe == {"text.weights_sha256": "text's", "units.weights_sha256": "units's"}
    assert (found.name, found.kind, found.min_samples, found.needs_text) == ("text+units", "clips", 201, True)
    assert (found.sample_rate, found.mono, found.hop_length) == (16000, "mean", 640)


@pytest.mark.parametrize(
    ("parts", "batching", "most", "leading"),
    [
        ([TEXT, info("b")], Batching.SINGLE, 1, 0),
        ([TEXT, UNITS], Batching.ANY, 32, 0),
        ([TEXT, info("b", batching=Batching.EQUAL_LENGTH, max_batch=8)], Batching.ANY, 8, 0),
        ([TEXT, UNITS, LANES], Batching.LANES, 4, 2),
    ],
)
def test_how_it_is_batched(parts: list[BackendInfo], batching: Batching, most: int, leading: int) -> None:
    """Clips of any lengths where a part gains from company, each part's own batches being formed inside; with lanes exactly
    the calls that the part with lanes has alone, since their shape decides its bits.
    """
    found = combined_info("all", parts)
    assert (found.batching, found.max_batch, leader(parts)) == (batching, most, leading)
    if batching is Batching.LANES:
        assert found.hop_length == LANES.hop_length


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([TEXT, MULAW.describe({}, "cpu")], "a\\+b: mulaw encodes fragments, .*join the runs"),
        ([TEXT, info("b", sample_rate=24000)], "one sample rate, found text 16000 Hz, b 24000 Hz"),
        ([TEXT, info("b", mono="first")], "one rule for channels .*, found text mean, b first"),
        ([LANES, dataclasses.replace(LANES, name="b")], "lanes in one part at most, found lanes, b: --set lanes.lanes=0"),
    ],
)
def test_what_cannot_share_a_pass(parts: list[BackendInfo], message: str) -> None:
    """One message that names the parts, and what to do instead."""
    with pytest.raises(UsageError, match=message):
        combined_info("a+b", parts)


def test_keys_of_one_name() -> None:
    """Each has its part's name before it; all other keys stay as they are. Two that meet nevertheless are refused."""
    parts = [info("a", "tokens", "mid"), info("b", "tokens")]
    assert record_keys(parts) == [{"tokens": "a_tokens", "mid": "mid"}, {"tokens": "b_tokens"}]
    assert [field.name for field in combined_info("a+b", parts).fields] == ["a_tokens", "mid", "b_tokens"]
    with pytest.raises(UsageError, match="several parts give the key 'a_tokens'"):
        record_keys([*parts, info("c", "a_tokens")])


@pytest.mark.parametrize(
    ("batching", "most", "batches"),
    [
        (Batching.SINGLE, 8, [[0], [1], [2], [3], [4]]),
        (Batching.LANES, 8, [[0], [1], [2], [3], [4]]),
        (Batching.ANY, 2, [[0, 1], [2, 3], [4]]),
        (Batching.EQUAL_LENGTH, 2, [[0, 2], [4], [1], [3]]),
    ],
)
def test_exact_batches(batching: Batching, most: int, batches: list[list[int]]) -> None:
    """Every clip once, and no batch that the part does not call exact."""
    assert list(exact_batches(info("a", batching=batching, max_batch=most), [5, 6, 5, 7, 5])) == batches
