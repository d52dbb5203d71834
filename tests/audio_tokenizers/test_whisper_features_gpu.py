from __future__ import annotations

import numpy as np
import pytest
from support.golden_audio import pcm
from support.tiny_whisper import build_whisper

from audio_tokenizers.base import Utterance
from audio_tokenizers.whisper_features import FACTORY

pytestmark = pytest.mark.gpu

LENGTHS = (1, 321, 16000, 240000, 480001)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    path = build_whisper(tmp_path_factory.mktemp("whisper"))
    return {"model_path": str(path), "layer": 1, "dtype": "float32", "tf32": False}


def encode(backend, samples):
    wave = pcm(samples, start=37 * samples).astype(np.float32) / 32768
    return dict(backend.encode_clips([Utterance(wave)])[0])


def test_features_do_not_depend_on_order_or_process(options):
    """In any order, from any loaded copy, the same GPU gives the same bytes."""
    backend, fresh = FACTORY.load(options, "cuda"), FACTORY.load(options, "cuda:0")
    first = {samples: encode(backend, samples) for samples in LENGTHS}
    for samples in reversed(LENGTHS):
        again, other = encode(backend, samples), encode(fresh, samples)
        for name, array in first[samples].items():
            assert np.array_equal(array, again[name])
            assert np.array_equal(array, other[name])


def test_gpu_and_cpu_agree_but_for_rounding(options):
    """Other kernels round otherwise; a wrong path, or TF32 left on, would be further away."""
    gpu, cpu = FACTORY.load(options, "cuda"), FACTORY.load(options, "cpu")
    for samples in LENGTHS:
        ours, theirs = encode(gpu, samples), encode(cpu, samples)
        for name, array in ours.items():
            assert array.shape == theirs[name].shape
            assert np.abs(array - theirs[name]).max() < 1e-3
