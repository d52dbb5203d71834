"""audio_tokenizers/higgs/lanes.py: a clip in a lane is the clip alone, wherever its length falls in the hop of 960."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchaudio
from support.lanes import NoWaiting, check_company, check_ready, embeddings
from support.tiny_higgs import build_original_layout, build_transformers_layout, load_higgs, speech_like

from audio_tokenizers.base import Batching, LaneShape, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError
from audio_tokenizers.higgs.backend import FACTORY, Higgs
from audio_tokenizers.higgs.model import hear

HOP, LANES = 960, 4
SHORT = np.linspace(632, 1591, 45).astype(int) + HOP * (np.arange(45) % 3)
"""Residues all over the hop, some twenty apart, in clips of 1 to 4 frames."""
EDGES = [632, 633, 960, 1078, 1079, 1080, 1590, 1591, 1592, 1593, 1919, 1920, 1921]
"""Around the residues 119 to 631, where the clip is shifted for the acoustic branch."""
LENGTHS = sorted({*map(int, SHORT), *EDGES, 6 * HOP - 1, 6 * HOP})
RECORDING = speech_like(12000)


def options(directory: Path, **given: Any) -> dict[str, Any]:
    return {"model_path": str(directory), "tf32": False, "lanes": LANES} | given


def clip(samples: int) -> npt.NDArray[Any]:
    """Another piece of one recording for each length."""
    piece: npt.NDArray[Any] = RECORDING[samples % 4801 :][:samples]
    return piece


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    makers = {"original": build_original_layout, "transformers": build_transformers_layout}
    made = {layout: make(tmp_path_factory.mktemp(layout)) for layout, make in makers.items()}
    with pytest.MonkeyPatch.context() as patch:
        # Here a shifted clip of some lengths still has a frame less in the acoustic branch, which is cut from the other.
        patch.setattr("support.tiny_higgs.RATIOS", [3, 5, 8, 8])
        return made | {"other strides": build_original_layout(tmp_path_factory.mktemp("other"))}


@pytest.fixture(scope="module")
def backend(models: dict[str, Path]) -> Higgs:
    return load_higgs(options(models["original"]), "cpu")


@pytest.mark.parametrize("layout", ["original", "other strides"])
def test_the_embedding_is_the_single_clips_at_every_length_class(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """In float64, before the quantizer: neither branch hears padding, be it on one lane, on all, or on none."""
    backend = load_higgs(options(models[layout]), "cpu")
    model = backend._model.double()
    backend._lanes.hear = torchaudio.transforms.Resample(24000, 16000, dtype=torch.float64)
    seen = embeddings(model.quantizer, "encode", monkeypatch)
    bucket = 6 * HOP
    shortest = backend.info.min_samples
    lengths = [samples for samples in LENGTHS if samples >= shortest]
    groups = [lengths[i : i + LANES] for i in range(0, len(lengths), LANES)]
    groups += [[bucket, bucket, bucket, 1200], [bucket] * LANES, [shortest] * LANES]
    worst = 0.0
    for group in groups:
        batch = torch.zeros(LANES, bucket, dtype=torch.float64)
        for lane, samples in enumerate(group):
            batch[lane, :samples] = torch.from_numpy(clip(samples))
        with torch.inference_mode():
            _, frames = backend._lanes.encode(batch, [*group, *[bucket] * (LANES - len(group))])
            together = seen.pop()
            for lane, samples in enumerate(group):
                backend._codes(torch.from_numpy(clip(samples)).double()[None])
                alone = seen.pop()[0]
                assert alone.shape[1] == frames[lane]
                worst = max(worst, float((together[lane, :, : frames[lane]] - alone).abs().max()))
    assert worst < 1e-9


def test_frames_and_nearly_all_tokens_are_the_single_clips(backend: Higgs) -> None:
    """In float32 a call of another shape rounds otherwise, which moves a code of a near tie; frames are as many always."""
    equal = []
    for samples in LENGTHS:
        (ours,), alone = (
            backend.encode_lanes([clip(samples)], LaneShape(LANES, 6 * HOP))(),
            backend.encode([clip(samples)])[0],
        )
        assert (ours.shape, ours.dtype) == (alone.shape, np.dtype(np.int16))
        equal.append((ours == alone).ravel())
    assert np.concatenate(equal).mean() > 0.99


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_company_changes_nothing(models: dict[str, Path], layout: str, precision: str) -> None:
    """Order, lane, neighbours that are shifted or not, empty lanes: the codes have the same bits."""
    backend = load_higgs(options(models[layout], precision=precision), "cpu")

    def encode(waves: Sequence[Waveform]) -> list[Values]:
        return [{"tokens": codes} for codes in backend.encode_lanes(waves, LaneShape(LANES, 4 * HOP))()]

    clips = [clip(samples) for samples in (632, 2 * HOP + 400, 3 * HOP + 40, 4 * HOP)]
    check_company(encode, clips, [clip(samples) for samples in (4 * HOP, 1200, 4 * HOP - 3, 1000)])
    # Codes that hardly vary would agree by chance.
    assert len(np.unique(encode(clips)[3]["tokens"])) > 5


def test_bfloat16_is_near(models: dict[str, Path], backend: Higgs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the quantizer, in float32, is off by a few of bfloat16's steps, and most first codes are the same."""
    narrow = load_higgs(options(models["original"], precision="bf16"), "cpu")
    assert narrow.info.recipe == {**backend.info.recipe, "dtype": "bfloat16", "precision": "bf16"}
    wave, seen, codes = clip(11 * HOP), [], []
    for loaded in (backend, narrow):
        (found,) = loaded.encode_lanes([wave], LaneShape(LANES, 12 * HOP))()
        codes.append(found)
        listened = embeddings(loaded._model.quantizer, "encode", monkeypatch)
        (alone,) = loaded.encode([wave])
        assert (alone.shape, alone.dtype) == (found.shape, np.dtype(np.int16))
        assert (alone == found).mean() > 0.95
        seen.append(listened.pop())
    exact, near = seen
    assert (near.dtype, near.shape) == (torch.float32, exact.shape)
    assert 0 < float((near - exact).norm() / exact.norm()) < 0.05
    assert (codes[0] == codes[1])[0].mean() > 0.8


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nobody_waits_for_the_device(models: dict[str, Path], precision: str) -> None:
    """All lengths are known on the host: between two calls no value is asked for, and none is copied over."""
    backend = load_higgs(options(models["original"], precision=precision), "cpu")
    backend._model.to("meta")
    backend._lanes.hear.to("meta")
    with torch.inference_mode(), NoWaiting():
        codes, frames = backend._lanes.encode(torch.zeros(LANES, 4 * HOP, device="meta"), [632, 1200, 2 * HOP, 4 * HOP])
    assert (tuple(codes.shape[:2]), list(frames)) == ((LANES, 8), [1, 2, 2, 4])


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_networks_are_ready(models: dict[str, Path], layout: str) -> None:
    """Weight norms are merged, and attention is fused."""
    check_ready(load_higgs(options(models[layout]), "cpu")._model)


def test_what_hubert_hears_is_resampled_as_for_a_single_clip(backend: Higgs) -> None:
    """The filter is made once, to the same bits."""
    for samples in (632, 12000):
        batch = torch.from_numpy(clip(samples))[None]
        assert torch.equal(backend._lanes.hear(batch), hear(backend._checkpoint, batch))


def test_single_clips_are_what_they_are_without_lanes(models: dict[str, Path], backend: Higgs) -> None:
    """The hooks are there, and do nothing."""
    plain = load_higgs(options(models["original"], lanes=0), "cpu")
    backend.encode_lanes([clip(1000)], LaneShape(LANES, 2 * HOP))()
    for samples in (632, 1200, 5 * HOP):
        assert np.array_equal(backend.encode([clip(samples)])[0], plain.encode([clip(samples)])[0])


def test_lanes_are_part_of_the_description_where_there_are_any(models: dict[str, Path]) -> None:
    """Their number decides how sums are rounded; without lanes nothing is said of them, so that older runs go on."""
    single = FACTORY.describe(options(models["original"], lanes=None), "cpu")
    assert (single.batching, single.max_batch, "lanes" in single.recipe) == (Batching.SINGLE, 1, False)
    six = FACTORY.describe(options(models["original"], lanes=6), "cpu")
    assert (six.batching, six.max_batch, six.recipe) == (Batching.LANES, 6, {**single.recipe, "lanes": 6})
    gpu = FACTORY.describe(options(models["original"], lanes=None), "cuda")
    assert (gpu.batching, gpu.max_batch, gpu.recipe["lanes"]) == (Batching.LANES, 16, 16)


def test_errors_are_those_of_single_clips(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that is too short is one, and memory that runs out is the machine's trouble, with fewer lanes as a way out."""
    backend = load_higgs(options(models["original"]), "cpu")
    with pytest.raises(ClipError, match="631 samples") as caught:
        backend.encode_lanes([clip(1000), clip(631)], LaneShape(LANES, 2 * HOP))
    assert caught.value.kind == "too_short"
    monkeypatch.setattr(backend._model.acoustic_encoder, "forward", lambda *_args: torch.empty(1 << 60))
    with pytest.raises(InfrastructureError, match="take --set lanes=2"):
        backend.encode_lanes([clip(1000)], LaneShape(LANES, 2 * HOP))
