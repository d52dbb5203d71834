from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, silence, square, wave

from audio_tokenizers.bicodec.audio import normalize_volume, reference_clip, standardize


def speech(samples: int, start: int = 31000) -> npt.NDArray[Any]:
    return wave(pcm(samples, start)).astype(np.float64)


def loudness(samples: npt.NDArray[Any]) -> float:
    """The mean of the loud tenth of the audible samples, without the loudest hundredth."""
    audible = np.sort(np.abs(samples)[np.abs(samples) > 0.01])
    return float(audible[int(0.9 * len(audible)) : int(0.99 * len(audible))].mean())


@pytest.mark.parametrize("peak", [0.15, 0.3, 0.9, 1.9])
def test_clips_are_brought_to_one_volume(peak: float) -> None:
    """Global tokens follow the amplitude: softer and louder copies of a clip must be the same to the model."""
    tone = np.sin(np.arange(16000) * 0.1)
    normal = normalize_volume(peak * tone)
    assert loudness(normal) == pytest.approx(0.2, rel=0.01)
    assert normal.dtype == np.float64


def test_no_clip_is_scaled_beyond_full_scale() -> None:
    """A peak above 1 brings the whole clip down again, without clipping."""
    clip = np.where(np.arange(16000) % 100 == 0, 0.9, 0.02)
    assert np.max(np.abs(normalize_volume(clip))) == 1.0
    assert np.array_equal(normalize_volume(wave(square(16000)).astype(np.float64)) > 0, square(16000) > 0)


def test_a_quiet_clip_is_raised_to_a_peak_of_a_tenth_first() -> None:
    """Below a peak of 0.1; where nothing is above 0.01 that is all."""
    clip = speech(16000) / np.max(np.abs(speech(16000))) * 0.009
    assert np.max(np.abs(normalize_volume(clip))) == pytest.approx(0.1)
    # The volume is that of the clip as it came, not as it was raised: at most ten times more.
    half = clip * 5
    assert np.max(np.abs(normalize_volume(half))) > 0.5


def test_silence_stays_silence() -> None:
    """No division by zero: a peak counts as at least 0.001."""
    assert not normalize_volume(wave(silence(16000)).astype(np.float64)).any()
    assert normalize_volume(np.full(400, 1e-5))[0] == pytest.approx(1e-3)


@pytest.mark.parametrize(("audible", "changed"), [(10, False), (11, True)])
def test_a_volume_needs_more_than_ten_audible_samples(audible: int, changed: bool) -> None:
    """A click or two in silence is no measure of a speaker's volume."""
    clip = np.zeros(400)
    clip[:audible] = 0.5
    assert np.array_equal(normalize_volume(clip), clip) is not changed


def test_the_reference_clip_is_the_beginning_or_the_clip_over_and_over() -> None:
    """Always the same length; an exact fit is the clip itself."""
    clip = wave(pcm(700))
    assert np.array_equal(reference_clip(clip, 500), clip[:500])
    assert np.array_equal(reference_clip(clip, 700), clip)
    assert np.array_equal(reference_clip(clip, 1600), np.concatenate([clip, clip, clip[:200]]))
    assert np.array_equal(reference_clip(clip, 1400), np.concatenate([clip, clip]))


def test_what_wav2vec2_hears_is_what_transformers_prepares() -> None:
    """Bit for bit the output of its feature extractor, silence and full scale included."""
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    for samples in (pcm(400), pcm(96001, 5000), silence(1000), square(4001)):
        clip = wave(samples)
        theirs = extractor(clip.astype(np.float64), sampling_rate=16000, return_tensors="np", padding=True).input_values[0]
        assert np.array_equal(standardize(clip), theirs)
        assert standardize(clip).dtype == np.float32
