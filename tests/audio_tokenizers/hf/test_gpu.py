"""The codecs of transformers on a GPU, with lanes and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.lanes import begun_without_waiting, check_company
from support.tiny_hf import CODECS, build
from support.tiny_higgs import speech_like

from audio_tokenizers.base import LaneShape, Scalar, Values, Waveform
from audio_tokenizers.hf.backend import FACTORY, HfCodec

pytestmark = pytest.mark.gpu

RECORDING = speech_like(400_000)
LANES = 16


@pytest.fixture(scope="module", params=CODECS)
def options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    path = build(tmp_path_factory.mktemp(request.param), request.param)
    return {"model_path": str(path), "num_quantizers": None, "bandwidth": None, "tf32": False, "lanes": LANES}


@pytest.fixture(scope="module")
def backend(options: dict[str, Scalar]) -> HfCodec:
    return FACTORY.load(options, "cuda")


def clips(backend: HfCodec, seed: int) -> list[npt.NDArray[Any]]:
    """As many as there are lanes: the shortest, one that fills its bucket of about 6 s, and others between."""
    hop = backend.info.hop_length
    bucket = hop * (6 * backend.info.sample_rate // hop)
    lengths = [1, bucket, *np.random.default_rng(seed).integers(1, bucket, LANES - 2)]
    return [RECORDING[97 * number :][:samples] for number, samples in enumerate(lengths)]


def shape_of(backend: HfCodec) -> LaneShape:
    return LaneShape(LANES, max(map(len, clips(backend, 0))))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_company_changes_nothing(options: dict[str, Scalar], precision: str) -> None:
    """Order, lane, neighbours and empty lanes: the codes have the same bits on a GPU too, in any precision."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")

    def encode(waves: Sequence[Waveform]) -> list[Values]:
        return [{"tokens": codes} for codes in backend.encode_lanes(waves, shape_of(backend))()]

    check_company(encode, clips(backend, 0), clips(backend, 1))


def test_lanes_are_the_single_clips_but_for_rounding(backend: HfCodec) -> None:
    """A call of another shape rounds otherwise, which moves a code of a near tie; a leak would move many."""
    ours = backend.encode_lanes(clips(backend, 0), shape_of(backend))()
    alone = [backend.encode([wave])[0] for wave in clips(backend, 0)]
    equal = np.concatenate([(a == b).ravel() for a, b in zip(ours, alone, strict=True)])
    print(f"{backend.info.recipe['codec']}: equal codes, lanes and single clips: {equal.mean():.5f}")
    assert equal.mean() > 0.98


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_another_precision_is_near(options: dict[str, Scalar], backend: HfCodec, precision: str) -> None:
    """Most first codes are those of float32; EnCodec's tiny encoder says almost the same of all that it hears."""
    other = FACTORY.load({**options, "precision": precision}, "cuda")
    exact, near = (loaded.encode_lanes(clips(loaded, 0), shape_of(loaded))() for loaded in (backend, other))
    equal = np.concatenate([a == b for a, b in zip(near, exact, strict=True)], axis=1).mean(axis=1)
    codec = backend.info.recipe["codec"]
    print(
        f"{codec}: equal codes, {precision} and float32: {equal[0]:.3f} in the first codebook, {equal[-1]:.3f} in the last"
    )
    assert equal[0] > (0.2 if codec == "encodec" else 0.8)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_call_begins_without_waiting(options: dict[str, Scalar], precision: str) -> None:
    """In this mode torch fails where the host would wait for the device."""
    backend = FACTORY.load({**options, "precision": precision}, "cuda")
    shape = shape_of(backend)
    expected = backend.encode_lanes(clips(backend, 0), shape)()
    found = begun_without_waiting(lambda batch: backend.encode_lanes(batch, shape), clips(backend, 0), clips(backend, 1))
    assert all(map(np.array_equal, found, expected))


def test_a_fresh_copy_gives_the_same(options: dict[str, Scalar], backend: HfCodec) -> None:
    """Loaded anew on the same GPU."""
    fresh = FACTORY.load(options, "cuda:0")
    for ours, theirs in zip(
        *(codec.encode_lanes(clips(codec, 0), shape_of(codec))() for codec in (backend, fresh)), strict=True
    ):
        assert np.array_equal(ours, theirs)
