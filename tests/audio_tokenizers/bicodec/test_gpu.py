from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, wave
from support.lanes import begun_without_waiting, check_company
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.base import LaneShape, Scalar, Utterance
from audio_tokenizers.bicodec.backend import FACTORY, BiCodec

pytestmark = pytest.mark.gpu

LANES = 16
SHAPE = LaneShape(LANES, 96000)
LENGTHS = (400, 721, 16000, 96001, 240000)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    path = build_spark_tts(tmp_path_factory.mktemp("spark"))
    return {"model_path": str(path), "volume_normalize": True, "tf32": False, "lanes": LANES}


def encode(backend: BiCodec, samples: int) -> npt.NDArray[Any]:
    clip = backend.resample(wave(pcm(samples, 37 * samples)), 16000)
    return np.concatenate(list(backend.encode_clips([Utterance(clip)])[0].values()))


def test_tokens_do_not_depend_on_order_or_process(options: dict[str, Scalar]) -> None:
    """In any order, from any loaded copy, the same GPU gives the same tokens."""
    backend, fresh = FACTORY.load(options, "cuda"), FACTORY.load(options, "cuda:0")
    first = {samples: encode(backend, samples) for samples in LENGTHS}
    for samples in reversed(LENGTHS):
        assert np.array_equal(encode(backend, samples), first[samples])
        assert np.array_equal(encode(fresh, samples), first[samples])


def test_gpu_and_cpu_agree_but_for_rounding(options: dict[str, Scalar]) -> None:
    """Other kernels round otherwise, which moves a token here and there; a wrong path, or TF32 left on, would move many."""
    gpu, cpu = FACTORY.load(options, "cuda"), FACTORY.load(options, "cpu")
    for samples in LENGTHS:
        ours, theirs = encode(gpu, samples), encode(cpu, samples)
        assert ours.shape == theirs.shape
        assert np.mean(ours != theirs) < 0.02


def clips(seed: int) -> list[Utterance]:
    """As many as there are lanes: the shortest, one that fills its bucket, and others between."""
    lengths = [400, SHAPE.samples, *np.random.default_rng(seed).integers(400, SHAPE.samples, LANES - 2)]
    return [Utterance(wave(pcm(int(n), 997 * (seed + lane)))) for lane, n in enumerate(lengths)]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_company_changes_nothing(options: dict[str, Scalar], precision: str) -> None:
    """Order, lane, neighbours and empty lanes: both kinds of tokens have the same bits on a GPU too, in any precision."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")
    check_company(lambda some: backend.encode_lanes(some, SHAPE)(), clips(0), clips(100))


def test_lanes_are_the_single_clips_but_for_rounding(options: dict[str, Scalar]) -> None:
    """A call of another shape rounds otherwise, which moves a token of a near tie; a leak would move many."""
    backend = FACTORY.load(options, "cuda")
    ours, alone = backend.encode_lanes(clips(0), SHAPE)(), [backend.encode_clips([clip])[0] for clip in clips(0)]
    for name in ("global_tokens", "semantic_tokens"):
        equal = np.concatenate([a[name] == b[name] for a, b in zip(ours, alone, strict=True)])
        print(f"equal {name}, lanes and single clips: {equal.mean():.5f}")
        assert equal.mean() > 0.98


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_call_begins_without_waiting(options: dict[str, Scalar], precision: str) -> None:
    """In this mode torch fails where the host would wait for the device."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")
    expected = backend.encode_lanes(clips(0), SHAPE)()
    found = begun_without_waiting(lambda batch: backend.encode_lanes(batch, SHAPE), clips(0), clips(100))
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
