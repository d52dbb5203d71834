from __future__ import annotations

import numpy as np
import pytest
from support.golden_audio import pcm, wave
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.base import Utterance
from audio_tokenizers.bicodec import FACTORY

pytestmark = pytest.mark.gpu

LENGTHS = (400, 721, 16000, 96001, 240000)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    path = build_spark_tts(tmp_path_factory.mktemp("spark"))
    return {"model_path": str(path), "volume_normalize": True, "tf32": False}


def encode(backend, samples):
    clip = backend.resample(wave(pcm(samples, 37 * samples)), 16000)
    return np.concatenate(list(backend.encode_clips([Utterance(clip)])[0].values()))


def test_tokens_do_not_depend_on_order_or_process(options):
    """In any order, from any loaded copy, the same GPU gives the same tokens."""
    backend, fresh = FACTORY.load(options, "cuda"), FACTORY.load(options, "cuda:0")
    first = {samples: encode(backend, samples) for samples in LENGTHS}
    for samples in reversed(LENGTHS):
        assert np.array_equal(encode(backend, samples), first[samples])
        assert np.array_equal(encode(fresh, samples), first[samples])


def test_gpu_and_cpu_agree_but_for_rounding(options):
    """Other kernels round otherwise, which moves a token here and there; a wrong path, or TF32 left on, would move many."""
    gpu, cpu = FACTORY.load(options, "cuda"), FACTORY.load(options, "cpu")
    for samples in LENGTHS:
        ours, theirs = encode(gpu, samples), encode(cpu, samples)
        assert ours.shape == theirs.shape
        assert np.mean(ours != theirs) < 0.02
