"""jobs/batcher.py: batches never break the backend's rule, and every item leaves once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.base import Batching
from jobs.batcher import Batch, Batcher
from jobs.lane_grid import LaneGrid

GRID = LaneGrid(lanes=4, sample_rate=10, hop_length=1, fragment_frames=40)


def a_batcher(batching: Batching, max_batch: int, max_samples: int = 10**9) -> Batcher[tuple[int, int]]:
    """Of items (number, samples)."""
    grid = GRID if batching is Batching.LANES else None
    return Batcher(
        batching, max_batch, max_samples=max_samples, samples=lambda item: item[1], order=lambda item: item[:1], grid=grid
    )


def drain(batcher: Batcher[tuple[int, int]], wait_seconds: float) -> list[Batch[tuple[int, int]]]:
    """All that the batcher gives out now."""
    found = []
    while (batch := batcher.take(0.0, wait_seconds=wait_seconds)) is not None:
        found.append(batch)
    return found


@given(
    batching=st.sampled_from(list(Batching)),
    max_batch=st.integers(1, 6),
    lengths=st.lists(st.integers(1, 60), max_size=60),
)
def test_rules(batching: Batching, max_batch: int, lengths: list[int]) -> None:
    """Whatever comes, batches obey the rule; what is full leaves at once, the rest when asked for, each item once."""
    batcher = a_batcher(batching, max_batch)
    for number, samples in enumerate(lengths):
        batcher.add((number, samples), 0.0)
    full = drain(batcher, wait_seconds=1.0)
    batches = full + drain(batcher, wait_seconds=0.0)
    assert batcher.waiting == 0
    for batch in batches:
        sizes = [item[1] for item in batch.items]
        if batching is Batching.LANES:
            assert batch.shape is not None
            assert len(sizes) <= batch.shape.lanes
            assert all(GRID.shape(each) == batch.shape for each in sizes)
        else:
            assert batch.shape is None
            assert len(sizes) <= (1 if batching is Batching.SINGLE else max_batch)
            assert batching is not Batching.EQUAL_LENGTH or len(set(sizes)) == 1
    for batch in full:
        most = batch.shape.lanes if batch.shape is not None else 1 if batching is Batching.SINGLE else max_batch
        assert len(batch.items) == most
    assert sorted(item for batch in batches for item in batch.items) == list(enumerate(lengths))


def test_what_lines_wait_for_leaves_first() -> None:
    """Of full batches the one with the earliest clip, whichever came or filled first; equal lengths share a batch though
    others come between them.
    """
    batcher = a_batcher(Batching.EQUAL_LENGTH, 3)
    for number, samples in [(7, 4), (6, 4), (8, 4), (1, 6), (2, 6), (0, 5), (4, 6), (3, 5), (5, 5)]:
        batcher.add((number, samples), 0.0)
    batches = drain(batcher, wait_seconds=1.0)
    assert [[item[0] for item in batch.items] for batch in batches] == [[0, 3, 5], [1, 2, 4], [7, 6, 8]]


def test_long_items_fill_a_batch_by_themselves() -> None:
    """So many samples do not wait for more, however few items they are: memory must not grow with the batch."""
    batcher = a_batcher(Batching.ANY, 8, max_samples=10)
    for number, samples in enumerate([4, 3, 3, 12, 1]):
        batcher.add((number, samples), 0.0)
    assert [[item[1] for item in batch.items] for batch in drain(batcher, wait_seconds=1.0)] == [[4, 3, 3], [12]]
    assert batcher.waiting == 1


def test_the_oldest_leaves_when_it_has_waited_long_enough() -> None:
    """Not before, and not what came later; a full batch goes first."""
    batcher = a_batcher(Batching.EQUAL_LENGTH, 2)
    assert batcher.oldest_since() is None
    batcher.add((0, 5), 10.0)
    batcher.add((1, 6), 12.0)
    assert batcher.oldest_since() == 10.0
    assert batcher.take(14.9, wait_seconds=5.0) is None
    batcher.add((2, 7), 14.0)
    batcher.add((3, 7), 14.5)
    batches = [batcher.take(15.0, wait_seconds=5.0) for _ in range(3)]
    assert [[item[0] for item in batch.items] if batch else None for batch in batches] == [[2, 3], [0], None]
    assert batcher.oldest_since() == 12.0


@pytest.mark.parametrize(("batching", "grid"), [(Batching.LANES, None), (Batching.ANY, GRID)])
def test_lanes_and_their_grid_come_together(batching: Batching, grid: LaneGrid | None) -> None:
    """One without the other is a mistake in the code that calls."""
    with pytest.raises(ValueError, match="grid"):
        Batcher(batching, 4, max_samples=10, samples=len, order=lambda _item: (0,), grid=grid)
