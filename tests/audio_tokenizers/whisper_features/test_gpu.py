from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm
from support.lanes import begun_without_waiting, check_company
from support.tiny_whisper import build_whisper

from audio_tokenizers.base import LaneShape, Scalar, Utterance
from audio_tokenizers.whisper_features.backend import FACTORY, WhisperFeatures

pytestmark = pytest.mark.gpu

LANES = 8
SHAPE = LaneShape(LANES, 720000)
LENGTHS = (1, 321, 16000, 240000, 480001)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    path = build_whisper(tmp_path_factory.mktemp("whisper"))
    return {"model_path": str(path), "layer": 1, "dtype": "float32", "tf32": False, "lanes": LANES}


def encode(backend: WhisperFeatures, samples: int) -> dict[str, npt.NDArray[Any]]:
    wave = pcm(samples, start=37 * samples).astype(np.float32) / 32768
    return dict(backend.encode_clips([Utterance(wave)])[0])


def test_features_do_not_depend_on_order_or_process(options: dict[str, Scalar]) -> None:
    """In any order, from any loaded copy, the same GPU gives the same bytes."""
    backend, fresh = FACTORY.load(options, "cuda"), FACTORY.load(options, "cuda:0")
    first = {samples: encode(backend, samples) for samples in LENGTHS}
    for samples in reversed(LENGTHS):
        again, other = encode(backend, samples), encode(fresh, samples)
        for name, array in first[samples].items():
            assert np.array_equal(array, again[name])
            assert np.array_equal(array, other[name])


def test_gpu_and_cpu_agree_but_for_rounding(options: dict[str, Scalar]) -> None:
    """Other kernels round otherwise; a wrong path, or TF32 left on, would be further away."""
    gpu, cpu = FACTORY.load(options, "cuda"), FACTORY.load(options, "cpu")
    for samples in LENGTHS:
        ours, theirs = encode(gpu, samples), encode(cpu, samples)
        for name, array in ours.items():
            assert array.shape == theirs[name].shape
            assert np.abs(array - theirs[name]).max() < 1e-3


def clips(seed: int) -> list[Utterance]:
    """As many as there are lanes: the shortest, the longest, and others between, of one window or two."""
    lengths = [1, SHAPE.samples, *np.random.default_rng(seed).integers(1, SHAPE.samples, LANES - 2)]
    return [Utterance(pcm(int(n), start=997 * (seed + i)).astype(np.float32) / 32768) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_company_changes_nothing(options: dict[str, Scalar], precision: str) -> None:
    """Order, lane, neighbours and empty lanes: the features have the same bits on a GPU too, in any precision."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")
    check_company(lambda some: backend.encode_lanes(some, SHAPE)(), clips(0), clips(100))


def test_lanes_are_the_single_clips_but_for_rounding(options: dict[str, Scalar]) -> None:
    """A call of another shape rounds otherwise, and no more."""
    backend = FACTORY.load(options, "cuda")
    for found, clip in zip(backend.encode_lanes(clips(0), SHAPE)(), clips(0), strict=True):
        (alone,) = backend.encode_clips([clip])
        assert all(np.abs(found[name] - alone[name]).max() < 1e-4 for name in alone)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_call_begins_without_waiting(options: dict[str, Scalar], precision: str) -> None:
    """In this mode torch fails where the host would wait for the device."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")
    expected = backend.encode_lanes(clips(0), SHAPE)()
    found = begun_without_waiting(lambda batch: backend.encode_lanes(batch, SHAPE), clips(0), clips(100))
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
