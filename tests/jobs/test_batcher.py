"""jobs/batcher.py: batches never break the backend's rule, and every clip gets its own codes or its own error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.base import Batching, Codes, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.batcher import LOOKAHEAD_BATCHES, Batcher

BAD = -1.0


class Encoder:
    """Codes that name the waveform; refuses a batch with a bad one in it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, waves: Sequence[Waveform]) -> list[Codes]:
        self.batches.append([len(wave) for wave in waves])
        if any(wave[0] == BAD for wave in waves):
            raise ClipError("backend", "bad wave")
        return [wave[np.newaxis, :1].astype(np.int64) for wave in waves]


def a_batcher(
    encode: Callable[[Sequence[Waveform]], list[Codes]], batching: Batching, max_batch: int, max_samples: int = 10**9
) -> Batcher[Any, Waveform, Codes]:
    return Batcher(encode, batching, max_batch, max_samples, samples=len)


@given(
    batching=st.sampled_from(list(Batching)),
    max_batch=st.integers(1, 6),
    clips=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=60),
)
def test_rules_and_tickets(batching: Batching, max_batch: int, clips: list[tuple[int, bool]]) -> None:
    """Whatever comes, batches obey the rule, the wait is bounded, and each ticket returns once, with its own outcome."""
    encoder = Encoder()
    batcher = a_batcher(encoder, batching, max_batch)
    results: list[tuple[int, Codes | ClipError]] = []
    for ticket, (length, bad) in enumerate(clips):
        results += batcher.add(ticket, np.full(length, BAD if bad else ticket, np.float32))
        assert ticket + 1 - len(results) < max(1, LOOKAHEAD_BATCHES * max_batch)
    results += batcher.flush()
    assert batcher.flush() == []
    for batch in encoder.batches:
        assert 1 <= len(batch) <= max_batch
        assert batching is not Batching.SINGLE or len(batch) == 1
        assert batching is not Batching.EQUAL_LENGTH or len(set(batch)) == 1
    assert sorted(ticket for ticket, _ in results) == list(range(len(clips)))
    for ticket, outcome in results:
        if clips[ticket][1]:
            assert isinstance(outcome, ClipError)
        else:
            assert not isinstance(outcome, ClipError)
            assert outcome.tolist() == [[ticket]]


def test_single_never_waits() -> None:
    """A backend that takes one clip at a time gets each at once, whatever its max_batch."""
    batcher = a_batcher(Encoder(), Batching.SINGLE, 8)
    assert [ticket for ticket, _ in batcher.add("a", np.ones(3, np.float32))] == ["a"]


def test_batches_fill() -> None:
    """Waveforms of equal length share a batch though others come between them."""
    encoder = Encoder()
    batcher = a_batcher(encoder, Batching.EQUAL_LENGTH, 3)
    for ticket, length in enumerate([5, 6, 5, 6, 5, 6]):
        batcher.add(ticket, np.ones(length, np.float32))
    assert encoder.batches == [[5, 5, 5], [6, 6, 6]]


def test_long_clips_fill_a_batch_by_themselves() -> None:
    """So many samples do not wait for more, however few clips they are: memory must not grow with the batch."""
    encoder = Encoder()
    batcher = a_batcher(encoder, Batching.ANY, 8, max_samples=10)
    for ticket, length in enumerate([4, 3, 3, 12, 1]):
        batcher.add(ticket, np.ones(length, np.float32))
    assert encoder.batches == [[4, 3, 3], [12]]
    assert len(batcher.flush()) == 1


def test_a_bad_clip_is_found_in_its_batch() -> None:
    """A ClipError of a batch is pinned to the clip that causes it; its neighbours get their codes."""
    encoder = Encoder()
    batcher = a_batcher(encoder, Batching.ANY, 3)
    batcher.add("a", np.array([1], np.float32))
    batcher.add("b", np.array([BAD], np.float32))
    results = dict(batcher.add("c", np.array([3], np.float32)))
    assert encoder.batches == [[1, 1, 1], [1], [1], [1]]
    assert isinstance(results["b"], ClipError)
    assert [np.asarray(results[ticket]).tolist() for ticket in "ac"] == [[[1]], [[3]]]


def test_trouble_with_the_machine_passes_through() -> None:
    """An InfrastructureError is no clip's fault: it ends the attempt."""

    def encode(waves: Sequence[Waveform]) -> list[Codes]:
        raise InfrastructureError("lost device")

    batcher = a_batcher(encode, Batching.ANY, 1)
    with pytest.raises(InfrastructureError):
        batcher.add(0, np.ones(1, np.float32))
