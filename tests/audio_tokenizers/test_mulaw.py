"""audio_tokenizers/mulaw.py: the textbook formula, the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audio_tokenizers.base import Batching
from audio_tokenizers.mulaw import FACTORY, mu_law_codes


def textbook(x: float) -> int:
    x = max(-1.0, min(1.0, x))
    companded = math.copysign(math.log(1 + 255 * abs(x)) / math.log(256), x)
    return math.floor((companded + 1) / 2 * 255 + 0.5)


def test_textbook_formula() -> None:
    """Codes are those of continuous mu-law in double precision; they may differ by one on the edge between two codes."""
    wave = np.concatenate([np.linspace(-1.2, 1.2, 20_001), np.random.default_rng(0).normal(0, 1e-3, 20_000)]).astype(
        np.float32
    )
    expected = np.array([textbook(float(x)) for x in wave])
    codes = mu_law_codes(wave)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("seed", range(3))
def test_torchaudio(seed: int) -> None:
    """They are torchaudio's, computed in double precision."""
    import torch
    import torchaudio

    wave = np.random.default_rng(seed).uniform(-1, 1, 20_000).astype(np.float32)
    expected = torchaudio.functional.mu_law_encoding(torch.from_numpy(wave).double(), 256).numpy()
    np.testing.assert_array_equal(mu_law_codes(wave), expected)


def test_ends_and_silence() -> None:
    """The ends of the range are codes 0 and 255, louder is clipped to them, and both zeros are silence, 128."""
    wave = np.array([-1, 1, -1.0001, 1.0001, -1e30, 1e30, -np.inf, np.inf, 0.0, -0.0, 1e-45, -1e-45], np.float32)
    assert mu_law_codes(wave).tolist() == [0, 255, 0, 255, 0, 255, 0, 255, 128, 128, 128, 128]


def test_order_and_symmetry() -> None:
    """A louder sample never has a smaller code, and all 256 codes are used."""
    codes = mu_law_codes(np.linspace(-1, 1, 1_000_001, dtype=np.float32)).astype(int)
    assert (np.diff(codes) >= 0).all()
    assert set(codes.tolist()) == set(range(256))


def test_backend() -> None:
    """The backend gives one codebook, one code per sample, each wave by itself, and describes itself alike when loaded."""
    info = FACTORY.describe({}, "cuda:3")
    backend = FACTORY.load({}, "cpu")
    assert backend.info == info
    assert (info.sample_rate, info.hop_length, info.fields[0].width, info.fields[0].codebook_size) == (8000, 1, 1, 256)
    assert info.batching is Batching.ANY
    waves = [np.zeros(5, np.float32), np.ones(3, np.float32)]
    assert [codes.tolist() for codes in backend.encode(waves)] == [[[128] * 5], [[255] * 3]]


def test_does_not_change_its_input() -> None:
    """A waveform may be used again."""
    wave = np.array([0.5, -2], np.float32)
    mu_law_codes(wave)
    assert wave.tolist() == [0.5, -2]


def test_the_way_back() -> None:
    """Each code decodes to a value that has this code again, as in torchaudio.functional.mu_law_decoding."""
    codes = np.arange(256, dtype=np.uint8)[np.newaxis, :]
    wave = FACTORY.load_decoder({}, "cpu").decode(codes)
    assert (wave.dtype, wave.shape, wave[0], wave[-1]) == (np.dtype(np.float32), (256,), -1.0, 1.0)
    assert np.array_equal(mu_law_codes(wave)[np.newaxis, :], codes)
    assert wave[200] == pytest.approx(math.expm1((400 / 255 - 1) * math.log(256)) / 255)
