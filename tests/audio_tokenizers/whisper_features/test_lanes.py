"""Whisper's encoder in lanes: windows of 30 s side by side, of one clip or of many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden_audio import pcm
from support.lanes import NoWaiting, check_company, check_ready
from support.tiny_whisper import WIDTH, build_whisper

from audio_tokenizers.base import Batching, LaneShape, Utterance
from audio_tokenizers.errors import ClipError, InfrastructureError
from audio_tokenizers.whisper_features.backend import FACTORY, WhisperFeatures, rows_of

LANES, WINDOW = 3, 480000


def options(directory: Path, **given: Any) -> dict[str, Any]:
    return {"model_path": str(directory), "layer": 1, "dtype": "float32", "tf32": False, "lanes": LANES} | given


def clip(samples: int) -> Utterance:
    """Another piece of the speech examples for each length."""
    return Utterance(pcm(samples, start=37 * samples).astype(np.float32) / 32768)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whisper(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture(scope="module")
def backend(model: Path) -> WhisperFeatures:
    return FACTORY.load(options(model), "cpu")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layer", [1, None])
def test_features_are_the_single_clips_at_every_length_class(model: Path, dtype: str, layer: int | None) -> None:
    """A window is as long in any call, so that only its rounding could differ; rows are as many and as wide."""
    backend = FACTORY.load(options(model, dtype=dtype, layer=layer), "cpu")
    for lengths in [(1, 319, 320), (321, 16000), (479999, 480000, 480001), (960001, 7, 480321)]:
        clips = [clip(samples) for samples in lengths]
        shape = LaneShape(LANES, 320 * -(-max(lengths) // 320))
        for found, one in zip(backend.encode_lanes(clips, shape)(), clips, strict=True):
            (alone,) = backend.encode_clips([one])
            assert list(found) == list(alone) == [field.name for field in backend.info.fields]
            for name, array in found.items():
                assert (array.shape, array.dtype) == ((rows_of(len(one.wave)), WIDTH), np.dtype(dtype))
                # An error of float32, or the next float16.
                assert np.allclose(array, alone[name], rtol=1e-5 if dtype == "float32" else 1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def narrow(model: Path) -> WhisperFeatures:
    """In bfloat16."""
    return FACTORY.load(options(model, precision="bf16"), "cpu")


def test_bfloat16_is_near(backend: WhisperFeatures, narrow: WhisperFeatures) -> None:
    """Features are off by a few of its steps of 0.4 %, in the type that was asked for."""
    assert narrow.info.recipe == {**backend.info.recipe, "dtype": "bfloat16", "precision": "bf16"}
    (exact,), (near,) = (loaded.encode_lanes([clip(32160)], LaneShape(LANES, 32160))() for loaded in (backend, narrow))
    (alone,) = narrow.encode_clips([clip(32160)])
    for name, array in near.items():
        assert (array.dtype, array.shape) == (np.dtype(np.float32), exact[name].shape)
        assert 0 < np.linalg.norm(array - exact[name]) / np.linalg.norm(exact[name]) < 0.02
        assert np.allclose(array, alone[name], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("samples", "precision"), [(WINDOW, "fp32"), (1_000_000, "fp32"), (WINDOW, "bf16")])
def test_company_changes_nothing(backend: WhisperFeatures, narrow: WhisperFeatures, samples: int, precision: str) -> None:
    """Order, lane, neighbours and empty lanes: the features have the same bits, whichever call a window is in."""
    backend = backend if precision == "fp32" else narrow
    shape = LaneShape(LANES, 320 * (samples // 320))
    clips, others = [clip(n) for n in (1, 32160, shape.samples)], [clip(n) for n in (shape.samples, 400, 479681)]
    check_company(lambda some: backend.encode_lanes(some, shape)(), clips, others)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nobody_waits_for_the_device(model: Path, precision: str) -> None:
    """Between two calls no value is asked for, and none is copied over."""
    backend = FACTORY.load(options(model, precision=precision), "cpu")
    backend._encoder._encoder.to("meta")
    with torch.inference_mode(), NoWaiting():
        states = backend._states(torch.zeros(LANES, 80, 3000, device="meta"))
    assert [state.shape for state in states] == [(LANES, 1500, WIDTH)] * 2


def test_networks_are_ready(backend: WhisperFeatures) -> None:
    """Attention is fused, and nothing is kept for a gradient."""
    check_ready(backend._encoder._encoder)


def test_lanes_are_part_of_the_description_where_there_are_any(model: Path) -> None:
    """Their number decides how sums are rounded; without lanes nothing is said of them, so that older runs go on."""
    single = FACTORY.describe(options(model, lanes=None), "cpu")
    assert (single.batching, single.max_batch, "lanes" in single.recipe) == (Batching.SINGLE, 1, False)
    six = FACTORY.describe(options(model, lanes=6), "cpu")
    assert (six.batching, six.max_batch, six.recipe) == (Batching.LANES, 6, {**single.recipe, "lanes": 6})
    gpu = FACTORY.describe(options(model, lanes=None), "cuda")
    assert (gpu.batching, gpu.max_batch, gpu.recipe["lanes"]) == (Batching.LANES, 16, 16)


def test_errors_are_those_of_single_clips(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty clip, features beyond float16, too many clips, and memory that runs out."""
    backend = FACTORY.load(options(model, dtype="float16"), "cpu")
    shape = LaneShape(LANES, 16000)
    with pytest.raises(ClipError, match="0 samples") as caught:
        backend.encode_lanes([clip(100), clip(0)], shape)
    assert caught.value.kind == "too_short"
    with pytest.raises(InfrastructureError, match="a bug in the caller"):
        backend.encode_lanes([clip(100)] * 4, shape)
    with monkeypatch.context() as patch:
        patch.setattr(backend._encoder._encoder.layer_norm, "forward", lambda x: x * 1e9)
        finish = backend.encode_lanes([clip(1000)], shape)
        with pytest.raises(ClipError, match="final is beyond float16"):
            finish()
    monkeypatch.setattr(backend._encoder._encoder.layer_norm, "forward", lambda _: torch.empty(1 << 60))
    with pytest.raises(InfrastructureError, match="take --set lanes=1 "):
        backend.encode_lanes([clip(1000)], shape)
