"""shared/resampling.py: upstream's filters, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
import torchaudio

from audio_tokenizers.shared.resampling import soxr_resample, torchaudio_resample

WAVE = np.random.default_rng(0).uniform(-1, 1, 5001).astype(np.float32)
RATES = [8000, 22050, 24000, 44100, 48000]


@pytest.mark.parametrize("rate", RATES)
def test_torchaudio_is_its_transform(rate: int) -> None:
    """The transform's kernel, from 8 kHz too, on memory of any layout, and the same each time."""
    expected = torchaudio.transforms.Resample(rate, 16000)(torch.from_numpy(WAVE)[None])[0].numpy()
    assert len(expected) == -(-len(WAVE) * 16000 // rate)
    for wave in (WAVE, np.repeat(WAVE, 2)[::2]):
        assert np.array_equal(torchaudio_resample(wave, rate, 16000), expected)


@pytest.mark.parametrize("rate", RATES)
def test_soxr_keeps_the_type(rate: int) -> None:
    """float64 is resampled as float64, which is what some tokenizers hear."""
    for dtype in (np.float32, np.float64):
        found = soxr_resample(WAVE.astype(dtype), rate, 16000, "VHQ")
        assert found.dtype == dtype
        assert np.array_equal(found, soxr.resample(WAVE.astype(dtype), rate, 16000, "VHQ"))


def test_the_same_rate_changes_nothing() -> None:
    """No filter runs where none is needed."""
    assert torchaudio_resample(WAVE, 16000, 16000) is WAVE
    assert soxr_resample(WAVE, 16000, 16000, "HQ") is WAVE
