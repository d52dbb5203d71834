"""BiCodec in lanes: a clip is the clip alone, wherever its length falls in the hop of 320."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.golden_audio import pcm, wave
from support.lanes import NoWaiting, check_company, check_ready, embeddings
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.base import Batching, LaneShape, Utterance
from audio_tokenizers.bicodec.audio import standardize
from audio_tokenizers.bicodec.backend import FACTORY, BiCodec
from audio_tokenizers.bicodec.model import mixed_features
from audio_tokenizers.errors import ClipError, InfrastructureError

HOP, LANES = 320, 4
LENGTHS = sorted(
    {400, 401, *(HOP * k + d for k in (2, 3, 9) for d in (-1, 0, 1, 79, 80, 81)), *range(640, 2600, 61), 3199, 3200}
)
SHAPE = LaneShape(LANES, 3200)


def options(directory: Path, **given: Any) -> dict[str, Any]:
    return {"model_path": str(directory), "volume_normalize": True, "tf32": False, "lanes": LANES} | given


def clip(samples: int) -> Utterance:
    """Another piece of the speech examples for each length, float32 as `resample` gives it."""
    return Utterance(wave(pcm(samples, 37 * samples)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spark_tts(tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="module")
def backend(model: Path) -> BiCodec:
    return FACTORY.load(options(model), "cpu")


def test_the_embedding_is_the_single_clips_at_every_length_class(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, before the semantic quantizer: no frame hears padding, be it on one lane, on all, or on none."""
    backend = FACTORY.load(options(model), "cpu")
    encoder, wav2vec2 = backend._encoder.double(), backend._wav2vec2.double()
    seen = embeddings(encoder.quantizer, "forward", monkeypatch)
    groups = [LENGTHS[i : i + LANES] for i in range(0, len(LENGTHS), LANES)] + [
        [3200] * 3 + [1111],
        [3200] * LANES,
        [400] * LANES,
    ]
    worst = 0.0
    for group in groups:
        waves = [standardize(clip(samples).wave.astype(np.float32)) for samples in group]
        batch = torch.zeros(LANES, SHAPE.samples, dtype=torch.float64)
        for lane, heard in enumerate(waves):
            batch[lane, : len(heard)] = torch.from_numpy(heard)
        with torch.inference_mode():
            _, frames = backend._semantic_lanes(batch, [*group, *[SHAPE.samples] * (LANES - len(group))])
            together = seen.pop()
            for lane, heard in enumerate(waves):
                encoder.semantic_tokens(mixed_features(wav2vec2, torch.from_numpy(heard).double()[None]))
                alone = seen.pop()[0]
                assert alone.shape[1] == frames[lane] == (len(heard) - 80) // HOP
                worst = max(worst, float((together[lane, :, : frames[lane]] - alone).abs().max()))
    assert worst < 1e-9


def test_frames_and_nearly_all_tokens_are_the_single_clips(backend: BiCodec) -> None:
    """In float32 a call of another shape rounds otherwise, which moves a token of a near tie; frames are as many always."""
    equal: dict[str, list[npt.NDArray[Any]]] = {"global_tokens": [], "semantic_tokens": []}
    for samples in LENGTHS[::4]:
        ours, alone = backend.encode_lanes([clip(samples)], SHAPE)()[0], backend.encode_clips([clip(samples)])[0]
        assert list(ours) == list(alone) == list(equal)
        for name, found in equal.items():
            assert (ours[name].shape, ours[name].dtype) == (alone[name].shape, np.dtype(np.int16))
            found.append(ours[name] == alone[name])
    assert all(np.concatenate(found).mean() > 0.99 for found in equal.values())


@pytest.fixture(scope="module")
def narrow(model: Path) -> BiCodec:
    """In bfloat16."""
    return FACTORY.load(options(model, precision="bf16"), "cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_company_changes_nothing(backend: BiCodec, narrow: BiCodec, precision: str) -> None:
    """Order, lane, neighbours and empty lanes: both kinds of tokens have the same bits, in a full lane too."""
    backend = backend if precision == "fp32" else narrow
    clips = [clip(samples) for samples in (400, 1000, 2222, 3200)]
    check_company(lambda some: backend.encode_lanes(some, SHAPE)(), clips, [clip(n) for n in (3200, 555, 3199, 640)])
    values = backend.encode_lanes(clips, SHAPE)()
    # Tokens that hardly vary would agree by chance.
    assert len(np.unique([found["global_tokens"] for found in values])) > 20
    assert len(np.unique(values[3]["semantic_tokens"])) > 3


def test_bfloat16_is_near(backend: BiCodec, narrow: BiCodec) -> None:
    """Most semantic tokens are the same, and all that speak of the voice, which stays in float32."""
    assert narrow.info.recipe == {**backend.info.recipe, "dtype": "bfloat16", "precision": "bf16"}
    clips = [clip(samples) for samples in (3200, 3100, 3000, 2900)]
    exact, near = backend.encode_lanes(clips, SHAPE)(), narrow.encode_lanes(clips, SHAPE)()
    alone = [narrow.encode_clips([one])[0] for one in clips]
    for name, least in (("global_tokens", 1.0), ("semantic_tokens", 0.8)):
        words, narrow_words, single = (np.concatenate([found[name] for found in all_]) for all_ in (exact, near, alone))
        assert (narrow_words.shape, narrow_words.dtype) == (words.shape, np.dtype(np.int16))
        assert (words == narrow_words).mean() >= least
        assert (single == narrow_words).mean() > 0.95


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nobody_waits_for_the_device(model: Path, precision: str) -> None:
    """All lengths are known on the host: between two calls no value is asked for, and none is copied over."""
    backend = FACTORY.load(options(model, precision=precision), "cpu")
    encoder = backend._encoder.to("meta")
    backend._wav2vec2.to("meta")
    backend._mel.to("meta")
    with torch.inference_mode(), NoWaiting():
        tokens, frames = backend._semantic_lanes(torch.zeros(LANES, 3200, device="meta"), [400, 1000, 2222, 3200])
        voices = encoder.global_tokens(backend._mel(torch.zeros(LANES, 96000, device="meta")))
    assert (tokens.shape, tuple(frames), voices.shape) == ((LANES, 9), (1, 2, 6, 9), (LANES, 32))


def test_networks_are_ready(backend: BiCodec) -> None:
    """Weight norms are merged; wav2vec2's attention is fused, the perceiver's is written out, as upstream has it."""
    check_ready(backend._encoder, backend._wav2vec2)


def test_single_clips_are_what_they_are_without_lanes(model: Path, backend: BiCodec) -> None:
    """The hooks are there, and do nothing."""
    plain = FACTORY.load(options(model, lanes=0), "cpu")
    backend.encode_lanes([clip(1000)], SHAPE)()
    for samples in (400, 2222):
        ours, theirs = backend.encode_clips([clip(samples)])[0], plain.encode_clips([clip(samples)])[0]
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_lanes_are_part_of_the_description_where_there_are_any(model: Path) -> None:
    """Their number decides how sums are rounded; without lanes nothing is said of them, so that older runs go on."""
    single = FACTORY.describe(options(model, lanes=None), "cpu")
    assert (single.batching, single.max_batch, "lanes" in single.recipe) == (Batching.SINGLE, 1, False)
    six = FACTORY.describe(options(model, lanes=6), "cpu")
    assert (six.batching, six.max_batch, six.recipe) == (Batching.LANES, 6, {**single.recipe, "lanes": 6})
    gpu = FACTORY.describe(options(model, lanes=None), "cuda")
    assert (gpu.batching, gpu.max_batch, gpu.recipe["lanes"]) == (Batching.LANES, 16, 16)


def test_errors_are_those_of_single_clips(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that is too short is one, and memory that runs out is the machine's trouble, with fewer lanes as a way out."""
    backend = FACTORY.load(options(model), "cpu")
    with pytest.raises(ClipError, match="399 samples") as caught:
        backend.encode_lanes([clip(1000), clip(399)], SHAPE)
    assert caught.value.kind == "too_short"
    monkeypatch.setattr(backend._wav2vec2.feature_extractor, "forward", lambda *_args: torch.empty(1 << 60))
    with pytest.raises(InfrastructureError, match="take --set lanes=2"):
        backend.encode_lanes([clip(1000)], SHAPE)
