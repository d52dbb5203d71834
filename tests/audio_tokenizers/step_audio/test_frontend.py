from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support import golden_audio

from audio_tokenizers.step_audio.frontend import (
    CHUNK_SAMPLES,
    CONTEXT_SAMPLES,
    Frontend,
    frame_count,
    normalize_energy,
    trim_silence,
)

SHIFT = np.linspace(-12, -8, 560, dtype=np.float32)
SCALE = np.linspace(0.2, 0.3, 560, dtype=np.float32)
LENGTHS = [0, 1, 79, 399, 400, 879, 880, 1359, 1360, 3839, 3840, 4719, 4720, 7680 + 3839, 16_000, 48_321]


def clip(samples: int, start: int = 0) -> npt.NDArray[Any]:
    return golden_audio.wave(golden_audio.pcm(samples, start))


def chunk_by_chunk(wave: npt.NDArray[Any]) -> torch.Tensor:
    """Feature frames as FunASR's online frontend makes them: samples and mel frames carried from chunk to chunk."""
    from torchaudio.compliance import kaldi

    samples: npt.NDArray[np.float32] = np.zeros(0, np.float32)
    mels, made, first = torch.zeros(0, 80), [], True
    for start in range(0, len(wave) - len(wave) % CHUNK_SAMPLES + 1, CHUNK_SAMPLES):
        chunk = wave[start : start + CHUNK_SAMPLES]
        final = start + CHUNK_SAMPLES > len(wave)
        if final and len(chunk) < 880:
            break
        samples = np.concatenate((samples, chunk))
        fbank = kaldi.fbank(
            torch.from_numpy(samples)[None] * 32768,
            num_mel_bins=80,
            dither=0.0,
            energy_floor=0.0,
            window_type="hamming",
        )
        samples = samples[160 * len(fbank) :]
        mels = torch.cat((fbank[:1].expand(3, 80), fbank) if first else (mels, fbank))
        first = False
        while len(mels) >= 7 or (final and len(mels) > 3):
            window = torch.cat((mels[:7], mels[-1:].expand(7 - len(mels[:7]), 80)))
            made.append((window.reshape(-1) + torch.from_numpy(SHIFT)) * torch.from_numpy(SCALE))
            mels = mels[6:]
    return torch.stack(made) if made else torch.zeros(0, 560)


@pytest.mark.parametrize("samples", LENGTHS)
def test_features_of_the_whole_clip_are_those_made_chunk_by_chunk(samples: int) -> None:
    """Bit for bit, with the end that upstream's chunks give a clip."""
    wave = clip(samples, 99)
    expected = chunk_by_chunk(wave)
    found = Frontend(SHIFT, SCALE, 0.0).features(wave)
    assert len(found) == frame_count(samples)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cuts", [[1], [2], [1, 2], [1, 2, 3, 4]])
@pytest.mark.parametrize("rest", [0, 500, 880, 3000])
def test_pieces_of_a_clip_have_the_features_of_the_whole(cuts: list[int], rest: int) -> None:
    """Cut between chunks, with 3 mel frames of context: what a stream is made of."""
    wave = clip(5 * CHUNK_SAMPLES + rest, 4321)
    frontend = Frontend(SHIFT, SCALE, 0.0)
    ends = [CHUNK_SAMPLES * cut for cut in cuts] + [len(wave)]
    pieces = [
        frontend.features_of_piece(wave[max(0, start - CONTEXT_SAMPLES) : end], first=start == 0)
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    assert torch.equal(torch.cat(pieces), frontend.features(wave))


def test_the_number_of_frames_is_the_published_formula() -> None:
    """4 per 3840 samples, and of a rest from 880 samples on one more each 960."""
    assert [frame_count(n) for n in (879, 880, 1359, 1360, 3279, 3280, 3839, 3840, 4719, 4720)] == [
        *(0, 1, 1, 2, 3, 4, 4, 4, 4, 5)
    ]
    assert [frame_count(16000 * seconds) for seconds in (1, 3, 10, 30)] == [16, 50, 167, 500]


def test_dither_follows_the_samples_and_leaves_the_generator_alone() -> None:
    """Equal clips get equal noise, others other noise, and nobody else's random numbers change."""
    frontend, quiet = Frontend(SHIFT, SCALE, 1.0), np.zeros(8000, np.float32)
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    first = frontend.features(quiet)
    assert torch.equal(torch.randn(4), expected)
    assert torch.equal(frontend.features(quiet.copy()), first)
    assert not torch.equal(frontend.features(quiet[:7999])[:4], first[:4])
    assert not torch.equal(Frontend(SHIFT, SCALE, 0.5).features(quiet), first)
    # Silence without noise is one value, the floor of the logarithm; with it, it is no longer.
    assert len(Frontend(SHIFT * 0, SCALE * 0 + 1, 0.0).features(quiet).unique()) == 1
    assert len(first.unique()) > 1000


@pytest.mark.parametrize(("peak", "expected"), [(0.5, 0.999), (1.0, 0.999), (0.01, 0.999), (0.005, 0.4995), (0.0, 0.0)])
def test_energy_is_normalised_to_the_peak_up_to_a_limit(peak: float, expected: float) -> None:
    """Peaks come to 0.999, but hiss is not blown up; silence stays silence."""
    wave = np.linspace(-peak, peak / 2, 100, dtype=np.float32)
    normalized = normalize_energy(wave)
    assert normalized.dtype == np.float32
    assert np.abs(normalized).max() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("before", "loud", "after"), [(0, 1, 0), (0, 900, 0), (100, 3000, 50), (9000, 5000, 9000)])
def test_trimming_keeps_50_ms_before_and_makes_a_multiple_of_240(before: int, loud: int, after: int) -> None:
    """Zeros fill up what the clip does not have; the length is 4320 and a multiple of 240 samples."""
    wave = np.concatenate((np.zeros(before), clip(loud, 30_000) * 0 + 0.5, np.zeros(after))).astype(np.float32)
    trimmed = trim_silence(wave)
    assert trimmed.dtype == np.float32
    assert (len(trimmed) - 4320) % 240 == 0
    # librosa's frames of 512 begin to hear a little before the sound does.
    assert 800 <= int(np.argmax(np.abs(trimmed) > 0.1)) <= 800 + 512
    assert np.count_nonzero(trimmed) == loud
