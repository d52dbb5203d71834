"""jobs/token_sink.py: the same JSON whether codes stay in memory or go to files."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.base import Field
from jobs import token_sink
from jobs.records import codes_to_json
from jobs.sequence_counter import SequenceCounter
from jobs.token_sink import TokenSink


@given(
    codebooks=st.integers(1, 9),
    frames=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    in_memory=st.integers(0, 2000),
    may_spill=st.lists(st.booleans(), min_size=10, max_size=10),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]),
)
def test_the_same_text_however_it_comes(
    codebooks: int, frames: int, cuts: list[int], in_memory: int, may_spill: list[bool], dtype: type
) -> None:
    """Any split, any limit, spilled whenever and any type of integer give the text of the whole array."""
    codes: npt.NDArray[Any] = np.random.default_rng(frames).integers(0, 256, (codebooks, frames)).astype(dtype)
    edges = sorted({0, frames, *(cut % frames for cut in cuts)})
    with TokenSink(codebooks, in_memory) as sink:
        for (begin, end), may in zip(pairwise(edges), may_spill, strict=False):
            sink.add(codes[:, begin:end], may_spill=may)
        assert sink.frames == frames
        text = b"".join(sink.json_parts())
    assert text == codes_to_json(codes)
    assert json.loads(text) == codes.tolist()


@given(cuts=st.lists(st.integers(0, 60), max_size=6), takes=st.sets(st.integers(0, 6)), in_memory=st.integers(0, 200))
def test_what_is_not_kept_yet_is_given_once(cuts: list[int], takes: set[int], in_memory: int) -> None:
    """Spilled or not, taken whenever: the pieces are the codes, frame by frame, in the type that was asked for."""
    codes = np.random.default_rng(1).integers(0, 1000, (3, 60))
    edges = sorted({0, 60, *cuts})
    with TokenSink(3, in_memory, kept_as=np.dtype("<u2")) as sink:
        pieces: list[bytes] = []
        for number, (begin, end) in enumerate(pairwise(edges)):
            sink.add(codes[:, begin:end], may_spill=number % 2 == 0)
            if number in takes:
                assert sink.unkept_bytes == 2 * 3 * end - sum(map(len, pieces))
                pieces.append(sink.take_unkept())
                assert sink.unkept_bytes == 0
        pieces.append(sink.take_unkept())
        assert b"".join(sink.json_parts()) == codes_to_json(codes)
    assert np.frombuffer(b"".join(pieces), "<u2").reshape(-1, 3).T.tolist() == codes.tolist()


@pytest.mark.parametrize("in_memory", [0, 40, 200])
def test_codes_are_counted_wherever_they_are(in_memory: int) -> None:
    """In memory the array itself is there to count; what went to files was counted before, and the rest is with it."""
    field = Field(name="tokens", form="codes", width=3, codebook_size=9, samples_per_item=1)
    codes = np.random.default_rng(0).integers(0, 9, (3, 60))
    with TokenSink(3, in_memory, count=lambda: SequenceCounter(field, 10)) as sink:
        for begin in range(0, 60, 10):
            sink.add(codes[:, begin : begin + 10])
        assert b"".join(sink.json_parts()) == codes_to_json(codes)
        found = sink.counted()
    whole = SequenceCounter(field, 10)
    if isinstance(found, SequenceCounter):
        assert in_memory < 180
        whole.absorb(found, 0, "a.wav")
    else:
        whole.add(found, 0, "a.wav")
        whole.finish()
    assert whole.items == 60
    assert whole.counts.tolist() == [np.bincount(row, minlength=9).tolist() for row in codes]


def test_a_spill_with_nothing_since() -> None:
    """Codes that were all spilled by the last `add` are given back whole."""
    codes = np.arange(12).reshape(2, 6)
    with TokenSink(2, 5) as sink:
        sink.add(codes)
        assert b"".join(sink.json_parts()) == b"[[0,1,2,3,4,5],[6,7,8,9,10,11]]"


def test_pieces_without_frames() -> None:
    """A fragment that gives up all its frames to its neighbours changes nothing, before, between or after spills."""
    none = np.zeros((2, 0), np.int64)
    for in_memory in (0, 3, 100):
        with TokenSink(2, in_memory) as sink:
            for codes in (none, np.array([[1, 2], [3, 4]]), none, np.array([[5], [6]]), none):
                sink.add(codes)
            assert b"".join(sink.json_parts()) == b"[[1,2,5],[3,4,6]]"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, neither the codes held nor the pieces given back grow with the clip."""
    monkeypatch.setattr(token_sink, "COPY_BYTES", 1000)
    with TokenSink(1, 500) as sink:
        for _ in range(50):
            sink.add(np.full((1, 300), 7))
            assert sink._held <= 500
        pieces = list(sink.json_parts())
    assert max(len(piece) for piece in pieces) <= 1000
    assert json.loads(b"".join(pieces)) == [[7] * 15_000]


def test_closing_twice_is_harmless() -> None:
    """A sink that spilled closes its files once, and may be closed again."""
    sink = TokenSink(2, 0)
    sink.add(np.ones((2, 3), np.int64))
    sink.close()
    sink.close()
