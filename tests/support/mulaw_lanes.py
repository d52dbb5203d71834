"""mu-law in calls of fixed shapes, whose codes depend on the shape: should that depend on luck, the bytes would show it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import numpy as np

from audio_tokenizers.base import Batching, Codes, LaneShape, Waveform
from audio_tokenizers.mulaw import FACTORY, MuLaw


class LanesMuLaw(MuLaw):
    """Notes the clips' lengths and the shape of each call. `gate`, if given, is waited for in each call."""

    def __init__(self, lanes: int = 4, gate: Callable[[], object] = lambda: None) -> None:
        super().__init__(dataclasses.replace(FACTORY.describe({}, "cpu"), batching=Batching.LANES, max_batch=lanes))
        self.calls: list[tuple[list[int], LaneShape]] = []
        self._gate = gate

    def encode_lanes(self, waves: Sequence[Waveform], shape: LaneShape) -> Callable[[], list[Codes]]:
        assert threading.current_thread().name == "device"
        assert 1 <= len(waves) <= shape.lanes
        assert all(len(wave) <= shape.samples for wave in waves)
        self.calls.append(([len(wave) for wave in waves], shape))
        self._gate()
        codes: list[Codes] = [code + np.uint8(shape.samples % 256) for code in self.encode(waves)]
        return lambda: codes
