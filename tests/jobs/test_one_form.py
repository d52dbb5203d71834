"""jobs/one_form.py: parts at other rates and with other channels become like the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soxr
from support.tars import noise

from jobs.one_form import at_one_rate, with_as_many_channels

Blocks = list[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]


@pytest.mark.parametrize("channels", [None, 1, 2])
def test_each_part_is_resampled_by_itself(channels: int | None) -> None:
    """In one piece, bit for bit, however many blocks it comes in; the first rate's samples are not touched."""

    def part(frames: int, seed: int) -> Any:
        wave = noise(frames, channels or 1, seed).reshape(frames, -1)
        return wave if channels else wave[:, 0]

    first, second, third, fourth = part(5000, 1), part(4000, 2), part(3000, 3), part(700, 4)
    blocks: Blocks = [(first[:2000], 16000), (first[2000:], 16000)]
    blocks += [(second[:1500], 44100), (second[1500:1501], 44100), (second[1501:], 44100)]
    blocks += [(third, 16000), (fourth, 8000)]
    found = list(at_one_rate(iter(blocks)))
    assert {rate for _, rate in found} == {16000}
    expected = [first, soxr.resample(second, 44100, 16000, "HQ"), third, soxr.resample(fourth, 8000, 16000, "HQ")]
    np.testing.assert_array_equal(np.concatenate([block for block, _ in found]), np.concatenate(expected))
    assert found[0][0] is blocks[0][0]


def test_nothing() -> None:
    """No blocks, and empty ones."""
    assert list(at_one_rate(iter([]))) == []
    empty = np.empty(0, np.float32)
    assert sum(len(block) for block, _ in at_one_rate(iter([(empty, 8000), (empty, 16000)]))) == 0


def test_channels() -> None:
    """As many as at first: where there are others, their mean in each."""
    stereo, mono, six = noise(10, 2), noise(10).reshape(10, 1), noise(10, 6)
    found = [block for block, _ in with_as_many_channels(iter([(stereo, 1), (mono, 1), (six, 1), (stereo, 1)]))]
    assert [block.shape for block in found] == [(10, 2)] * 4
    np.testing.assert_array_equal(found[1], np.repeat(mono, 2, axis=1))
    np.testing.assert_allclose(found[2], np.repeat(six.mean(axis=1, keepdims=True), 2, axis=1), atol=1e-7)
    assert found[0] is stereo
    found = [block for block, _ in with_as_many_channels(iter([(mono, 1), (stereo, 1)]))]
    np.testing.assert_allclose(found[1], stereo.mean(axis=1, keepdims=True), atol=1e-7)
