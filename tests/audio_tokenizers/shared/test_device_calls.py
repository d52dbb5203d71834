"""shared/device_calls.py: batches of a fixed size, and results that are waited for only when they are wanted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from audio_tokenizers.base import LaneShape
from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.device_calls import DeviceCalls

SHAPE = LaneShape(3, 5)


def test_a_batch_has_the_size_of_its_shape() -> None:
    """Zeros behind each wave and in the lanes that are left, whatever lay in that memory before."""
    batch = DeviceCalls("cpu", 3).waves([np.ones(5, np.float32), np.full(2, 7, np.float32)], SHAPE)
    assert batch.tolist() == [[1] * 5, [7, 7, 0, 0, 0], [0] * 5]
    assert batch.dtype == torch.float32


@pytest.mark.parametrize("samples", [[], [1, 1, 1, 1], [6]])
def test_what_does_not_fit_a_shape(samples: list[int]) -> None:
    """It is our own fault, and becomes no record of a clip."""
    with pytest.raises(InfrastructureError, match="a bug in the caller"):
        DeviceCalls("cpu", 3).waves([np.ones(n, np.float32) for n in samples], SHAPE)


def test_rows_of_two_dimensions_are_stacked() -> None:
    """Spectrograms, all of one size."""
    assert DeviceCalls("cpu", 3).stack([np.ones((2, 2), np.float32)], (2, 2, 2)).tolist() == [[[1, 1]] * 2, [[0, 0]] * 2]


def test_outputs_come_in_the_order_of_the_work() -> None:
    """As arrays, and in inference mode."""

    def work(batch: torch.Tensor) -> list[torch.Tensor]:
        assert torch.is_inference_mode_enabled()
        return [batch.to(torch.int16), batch * 2]

    calls = DeviceCalls("cpu", 3)
    finish = calls.begin([calls.waves([np.ones(2, np.float32)], SHAPE)], work)
    whole, twice = finish()
    assert (whole.dtype, whole[0].tolist(), twice[0].tolist()) == (np.dtype(np.int16), [1, 1, 0, 0, 0], [2, 2, 0, 0, 0])


def test_codes_end_where_their_lane_does() -> None:
    """As int16, each an array of its own, and none of a lane without a wave."""

    def encode(batch: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        return batch.long()[:, None].repeat(1, 2, 1), [5, 2, 5]

    waves = [np.arange(5, dtype=np.float32), np.full(2, 7, np.float32)]
    first, second = DeviceCalls("cpu", 3).begin_codes(waves, SHAPE, encode)()
    assert (first.dtype, first.tolist(), second.tolist()) == (np.dtype(np.int16), [[0, 1, 2, 3, 4]] * 2, [[7, 7]] * 2)
    assert second.base is None


def test_memory_that_runs_out_names_fewer_lanes() -> None:
    """Half of them, and what that means for the run."""
    message = r"out of memory on cpu: take --set lanes=8 \(another recipe, so with another --output-dir\), or more memory"
    with pytest.raises(InfrastructureError, match=message):
        DeviceCalls("cpu", 16).begin([], lambda: [torch.empty(1 << 60)])


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for_until_its_outputs_are() -> None:
    """Calls begin in a fraction of the time that they take, and end in any order with values of their own."""
    calls = DeviceCalls("cuda", 3)

    def work(batch: torch.Tensor) -> list[torch.Tensor]:
        torch.cuda._sleep(1 << 30)
        return [(batch + 1).to(torch.int16)]

    def begin(value: int) -> float:
        before = time.monotonic()
        finishes.append(calls.begin([calls.waves([np.full(5, value, np.float32)], SHAPE)], work))
        return time.monotonic() - before

    finishes: list[Callable[[], Any]] = []
    begin(0)
    finishes.pop()()  # memory and kernels are there from here on
    torch.cuda.set_sync_debug_mode("error")
    try:
        taken = [begin(value) for value in (1, 2)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    before = time.monotonic()
    assert [finish()[0].tolist() for finish in reversed(finishes)] == [[[v + 1] * 5, [1] * 5, [1] * 5] for v in (2, 1)]
    assert sum(taken) < time.monotonic() - before
