"""Resamples whole clips with exactly the filters that upstream tokenizers apply before their models."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np

from audio_tokenizers.base import Audio, Waveform

if TYPE_CHECKING:
    import torchaudio

__all__ = ["soxr_resample", "torchaudio_resample"]


def soxr_resample(wave: Audio, rate: int, target: int, quality: Literal["HQ", "VHQ"]) -> Audio:
    """[samples] at `rate` Hz -> [samples] at `target` Hz, in the dtype of `wave`."""
    import soxr

    if rate == target:
        return wave
    return np.asarray(soxr.resample(wave, rate, target, quality))


@functools.lru_cache(maxsize=16)
def _transform(rate: int, target: int) -> torchaudio.transforms.Resample:
    import torchaudio

    return torchaudio.transforms.Resample(rate, target)


def torchaudio_resample(wave: Waveform, rate: int, target: int) -> Waveform:
    """float32 [samples] at `rate` Hz -> float32 [samples] at `target` Hz, on the CPU, with torchaudio's default filter.

    As a transform, whose kernel is computed in float64; torchaudio.functional would compute it in the waveform's float32.
    """
    import torch

    if rate == target:
        return wave
    with torch.inference_mode():
        resampled: Waveform = _transform(rate, target)(torch.from_numpy(np.ascontiguousarray(wave))[None])[0].numpy()
    return resampled
