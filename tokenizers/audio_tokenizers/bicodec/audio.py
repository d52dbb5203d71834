"""Spark-TTS's preprocessing of a clip, with its arithmetic bit for bit: global tokens depend on the volume."""

from __future__ import annotations

import numpy as np

from audio_tokenizers.base import Audio, Waveform

__all__ = ["normalize_volume", "reference_clip", "standardize"]

LOUDNESS = 0.2
"""The volume that clips are brought to."""
QUIET_PEAK, SILENT_PEAK = 0.1, 1e-3
"""Clips whose peak is lower than the first are raised to it; none is raised as if its peak were below the second."""
AUDIBLE = 0.01
"""Lower amplitudes do not count towards the volume."""
FEW = 10
"""No volume is taken from as many audible samples or fewer."""


def normalize_volume(wave: Audio) -> Audio:
    """`audio_volume_normalize` of sparktts/utils/audio.py: the loud tenth of the audible samples to a mean of 0.2.

    [samples], at least one -> [samples] in the same dtype; never scaled up above a peak of 1, nor by more than 10 times.
    The volume is measured on the clip as given, even if it was raised for being quiet, as upstream does.
    """
    amplitudes = np.sort(np.abs(wave))
    if amplitudes[-1] < QUIET_PEAK:
        wave = wave / max(amplitudes[-1], SILENT_PEAK) * QUIET_PEAK
    amplitudes = amplitudes[amplitudes > AUDIBLE]
    audible = len(amplitudes)
    if audible <= FEW:
        return wave
    volume = np.mean(amplitudes[int(0.9 * audible) : int(0.99 * audible)])
    wave = wave * np.clip(LOUDNESS / volume, a_min=0.1, a_max=10)
    peak = np.max(np.abs(wave))
    return wave / peak if peak > 1 else wave


def reference_clip(wave: Waveform, samples: int) -> Waveform:
    """float32 [`samples`]: the beginning of `wave`, or the whole of it over and over."""
    return np.resize(wave, samples) if len(wave) < samples else wave[:samples]


def standardize(wave: Waveform) -> Waveform:
    """float32 [samples] with mean 0 and variance 1, as Wav2Vec2FeatureExtractor of transformers makes it."""
    standardized: Waveform = (wave - wave.mean()) / np.sqrt(wave.var() + np.float32(1e-7))
    return standardized
