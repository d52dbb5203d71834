"""jobs/lane_grid.py: a waveform's call depends on its length alone, holds it, and wastes little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.lane_grid import FULL_SECONDS, RATIO, LaneGrid

RATE, HOP, FRAGMENT = 24000, 960, 750


def a_grid(lanes: int = 16, fragment_frames: int | None = FRAGMENT) -> LaneGrid:
    return LaneGrid(lanes=lanes, sample_rate=RATE, hop_length=HOP, fragment_frames=fragment_frames)


@given(samples=st.integers(1, 200 * RATE), lanes=st.integers(1, 64), before=st.lists(st.integers(1, 900 * RATE), max_size=3))
def test_shape(samples: int, lanes: int, before: list[int]) -> None:
    """Whole hops that hold the waveform, the same whatever was asked before, and never more lanes than were asked for."""
    grid = a_grid(lanes)
    for other in before:
        grid.shape(other)
    shape = grid.shape(samples)
    assert shape == a_grid(lanes).shape(samples)
    assert shape.samples % HOP == 0
    assert shape.samples >= samples
    assert 1 <= shape.lanes <= lanes
    assert grid.shape(shape.samples) == shape
    if shape.samples > RATE:  # below, whole hops are coarser than the ratio
        assert shape.samples <= samples * RATIO + 2 * HOP


@pytest.mark.parametrize("frames", [1, 2, 10, 750, 751, 3000])
def test_fragments_fill_their_bucket(frames: int) -> None:
    """The fragment length is a bucket, whatever it is."""
    assert a_grid(fragment_frames=frames).shape(frames * HOP).samples == frames * HOP


def test_calls_stay_near_one_amount_of_audio() -> None:
    """All lanes up to FULL_SECONDS, then fewer in proportion, and one at the very least."""
    grid = a_grid(16)
    assert [grid.shape(seconds * RATE).lanes for seconds in (1, 5, 8, 30, 3600)] == [16, 16, 16, 5, 1]
    for seconds in range(1, 161):
        shape = grid.shape(seconds * RATE)
        assert shape.lanes * shape.samples <= max(16 * FULL_SECONDS * RATE, shape.samples)


def test_few_shapes() -> None:
    """Up to the fragment length: each costs a captured graph or a choice of kernels on a GPU."""
    grid = a_grid()
    assert len({grid.shape(samples) for samples in range(1, FRAGMENT * HOP, HOP)}) == 29


def test_whole_clips_have_no_longest_bucket() -> None:
    """A backend that takes whole clips may get one of hours."""
    assert a_grid(fragment_frames=None).shape(3 * 3600 * RATE).lanes == 1
