"""audio_tokenizers/hf/lanes.py: a clip in a lane is the clip alone, for each codec of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.lanes import NoWaiting, check_company, check_ready, embeddings
from support.tiny_hf import CODECS, HUBERT, build
from support.tiny_higgs import speech_like

from audio_tokenizers.base import Batching, LaneShape, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError
from audio_tokenizers.hf.backend import FACTORY, HfCodec
from audio_tokenizers.hf.model import encode_batch

RECORDING = speech_like(60000)
HOPS = {"mimi": 1920, "dac": 512, "encodec": 320, "xcodec": 320}
WAVLM = {"semantic_model_config": {**HUBERT, "model_type": "wavlm", "num_buckets": 32, "max_bucket_distance": 80}}
# One frame more than the acoustic encoder makes, until it hears zeros on both sides.
SHIFTED = {"semantic_model_config": {**HUBERT, "model_type": "hubert", "conv_kernel": [5, 2, 2, 2, 2, 2, 2]}}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{codec: (codec, {}) for codec in CODECS},
    "mimi, looking back 3 frames": ("mimi", {"sliding_window": 3}),
    "encodec, not causal": ("encodec", {"use_causal_conv": False}),
    "encodec, group norm": ("encodec", {"norm_type": "time_group_norm"}),
    "xcodec with WavLM": ("xcodec", WAVLM),
    "xcodec, shifted": ("xcodec", SHIFTED),
}
LANES = 4


def options(directory: Path, **given: Any) -> dict[str, Any]:
    return {"model_path": str(directory), "num_quantizers": None, "bandwidth": None, "tf32": False, "lanes": LANES} | given


def clip(samples: int) -> npt.NDArray[Any]:
    """Another piece of one recording for each length."""
    piece: npt.NDArray[Any] = RECORDING[samples % 4801 :][:samples]
    return piece


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = enumerate(VARIANTS.items())
    return {name: build(tmp_path_factory.mktemp(str(n)), codec, **changes) for n, (name, (codec, changes)) in made}


@pytest.fixture(scope="module")
def backends(models: dict[str, Path]) -> dict[str, HfCodec]:
    return {name: FACTORY.load(options(directory), "cpu") for name, directory in models.items()}


@pytest.fixture(scope="module")
def narrow(models: dict[str, Path]) -> dict[str, HfCodec]:
    """In bfloat16."""
    return {name: FACTORY.load(options(directory, precision="bf16"), "cpu") for name, directory in models.items()}


def lengths(hop: int, bucket: int) -> list[int]:
    """The shortest clips, all around whole hops and the bucket, and residues all over the hop."""
    edges = [k * hop + d for k in (1, 2, bucket // hop - 1) for d in (-1, 0, 1)]
    residues = [(1 + number % 3) * hop + residue for number, residue in enumerate(range(0, hop, max(1, hop // 16)))]
    return sorted({1, 2, 3, 7, 40, 79, 80, 161, *edges, *residues, bucket - 1, bucket})


@pytest.mark.parametrize("name", VARIANTS)
def test_the_embedding_is_the_single_clips_at_every_length_class(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In float64, before the quantizer: no lane's padding reaches a frame, be it on one lane, on all, or on none."""
    codec, _ = VARIANTS[name]
    backend = FACTORY.load(options(models[name]), "cpu")
    model, hop = backend._model.double(), backend.info.hop_length
    seen = embeddings(model.quantizer, "forward" if codec == "dac" else "encode", monkeypatch)
    whole, bucket = backend._checkpoint.whole_hops, 5 * hop
    bandwidth, codebooks = backend._bandwidth, backend.info.fields[0].width
    clips = [clip(n) for n in lengths(hop, bucket)]
    groups = [clips[i : i + LANES] for i in range(0, len(clips), LANES)]
    groups += [[clip(bucket)] * 3 + [clip(hop + 1)], [clip(bucket)] * LANES, [clip(1)] * LANES]
    worst = 0.0
    for group in groups:
        waves = [np.pad(wave, (0, -len(wave) % hop)) if whole else wave for wave in group]
        batch = torch.zeros(LANES, bucket, dtype=torch.float64)
        for lane, wave in enumerate(waves):
            batch[lane, : len(wave)] = torch.from_numpy(wave)
        ends = [len(wave) for wave in waves] + [bucket] * (LANES - len(waves))
        with torch.inference_mode():
            _, frames = backend._lanes.encode(batch, ends, bandwidth)
            together = seen.pop()
            for lane, wave in enumerate(waves):
                encode_batch(model, torch.from_numpy(wave).double()[None, None], codebooks, bandwidth)
                alone = seen.pop()[0]
                assert alone.shape[1] == frames[lane]
                worst = max(worst, float((together[lane, :, : frames[lane]] - alone).abs().max()))
    assert worst < 1e-9


@pytest.mark.parametrize("name", VARIANTS)
def test_frames_and_nearly_all_tokens_are_the_single_clips(backends: dict[str, HfCodec], name: str) -> None:
    """In float32 a call of another shape rounds otherwise, which moves a code of a near tie; frames are as many always."""
    backend = backends[name]
    hop = backend.info.hop_length
    equal = []
    for samples in lengths(hop, 5 * hop):
        (ours,), alone = (
            backend.encode_lanes([clip(samples)], LaneShape(LANES, 5 * hop))(),
            backend.encode([clip(samples)])[0],
        )
        assert (ours.shape, ours.dtype) == (alone.shape, np.dtype(np.int16))
        equal.append((ours == alone).ravel())
    assert np.concatenate(equal).mean() > 0.99


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_company_changes_nothing(
    backends: dict[str, HfCodec], narrow: dict[str, HfCodec], name: str, precision: str
) -> None:
    """Order, lane, neighbours and empty lanes: the codes have the same bits, also of clips that fill their bucket."""
    backend = (backends if precision == "fp32" else narrow)[name]
    hop = backend.info.hop_length
    shape = LaneShape(LANES, 4 * hop)

    def encode(waves: Sequence[Waveform]) -> list[Values]:
        return [{"tokens": codes} for codes in backend.encode_lanes(waves, shape)()]

    clips = [clip(n) for n in (1, hop + 1, 3 * hop, 4 * hop)]
    check_company(encode, clips, [clip(n) for n in (4 * hop, 2 * hop - 1, 4 * hop - 3, 17)])
    # Codes that hardly vary would agree by chance.
    assert len(np.unique(encode(clips)[3]["tokens"])) > 5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_nobody_waits_for_the_device(models: dict[str, Path], name: str, precision: str) -> None:
    """All lengths are known on the host: between two calls no value is asked for, and none is copied over."""
    backend = FACTORY.load(options(models[name], precision=precision), "cpu")
    hop = backend.info.hop_length
    backend._model.to("meta")
    ends = [hop * frames for frames in (1, 2, 4, 4)]
    batch = torch.zeros(LANES, 4 * hop, device="meta")
    with torch.inference_mode(), NoWaiting():
        codes, frames = backend._lanes.encode(batch, ends, backend._bandwidth)
    assert codes.shape == (LANES, backend.info.fields[0].width, frames[2])
    assert (frames[1] - frames[0], frames[2] - frames[0], frames[3] - frames[0]) == (1, 3, 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_is_near(
    backends: dict[str, HfCodec], narrow: dict[str, HfCodec], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What reaches the quantizer, in float32, is off by a few of bfloat16's steps, and most first codes are the same.

    Not EnCodec's: what its tiny encoder gives hardly varies, so that its random codes are as close as those steps.
    """
    hop, seen, codes = backends[name].info.hop_length, [], []
    wave = clip(24 * hop)
    for backend in (backends[name], narrow[name]):
        (found,) = backend.encode_lanes([wave], LaneShape(LANES, 24 * hop))()
        (alone,) = backend.encode([wave])
        assert (alone.shape, alone.dtype) == (found.shape, np.dtype(np.int16))
        assert (alone == found).mean() > 0.95
        listened = embeddings(backend._model.quantizer, "forward" if VARIANTS[name][0] == "dac" else "encode", monkeypatch)
        backend.encode([wave])
        seen.append(listened.pop())
        codes.append(found)
    exact, near = seen
    assert (near.dtype, near.shape) == (torch.float32, exact.shape)
    assert 0 < float((near - exact).norm() / exact.norm()) < 0.05
    assert (codes[0] == codes[1])[0].mean() > (0.3 if name.startswith("encodec") else 0.8)


@pytest.mark.parametrize("name", VARIANTS)
def test_networks_are_ready(backends: dict[str, HfCodec], name: str) -> None:
    """Weight norms are merged, and attention is fused."""
    check_ready(backends[name]._model)


def test_a_call_may_begin_before_the_last_has_ended(backends: dict[str, HfCodec]) -> None:
    """Codes are asked for in any order."""
    backend = backends["mimi"]
    shape = LaneShape(LANES, 4 * 1920)
    first, second = [clip(1920), clip(500)], [clip(7000)]
    finish_first, finish_second = backend.encode_lanes(first, shape), backend.encode_lanes(second, shape)
    later = finish_second()
    assert all(map(np.array_equal, finish_first(), backend.encode_lanes(first, shape)()))
    assert all(map(np.array_equal, later, backend.encode_lanes(second, shape)()))


@pytest.mark.parametrize("codec", CODECS)
def test_single_clips_are_what_they_are_without_lanes(
    models: dict[str, Path], backends: dict[str, HfCodec], codec: str
) -> None:
    """The hooks are there, and do nothing."""
    plain = FACTORY.load(options(models[codec], lanes=0), "cpu")
    backends[codec].encode_lanes([clip(100)], LaneShape(LANES, 2 * HOPS[codec]))()
    for samples in (1, 5 * HOPS[codec] - 1):
        assert np.array_equal(backends[codec].encode([clip(samples)])[0], plain.encode([clip(samples)])[0])


def test_lanes_are_part_of_the_description_where_there_are_any(models: dict[str, Path]) -> None:
    """Their number decides how sums are rounded; without lanes nothing is said of them, so that older runs go on."""
    single = FACTORY.describe(options(models["dac"], lanes=None), "cpu")
    assert (single.batching, single.max_batch, "lanes" in single.recipe) == (Batching.SINGLE, 1, False)
    six = FACTORY.describe(options(models["dac"], lanes=6), "cpu")
    assert (six.batching, six.max_batch, six.recipe) == (Batching.LANES, 6, {**single.recipe, "lanes": 6})
    gpu = FACTORY.describe(options(models["dac"], lanes=None), "cuda")
    assert (gpu.batching, gpu.max_batch, gpu.recipe["lanes"]) == (Batching.LANES, 16, 16)
    with pytest.raises(InfrastructureError, match="5 clips, the longest of 512 samples"):
        FACTORY.load(options(models["dac"]), "cpu").encode_lanes([clip(512)] * 5, LaneShape(LANES, 512))


def test_the_precision_is_part_of_the_description(models: dict[str, Path]) -> None:
    """Only bf16 adds a word: a run that is older than the option has the recipe of fp32, or of its `tf32`."""
    older = FACTORY.describe(options(models["dac"]), "cpu").recipe
    assert FACTORY.describe(options(models["dac"], precision="fp32"), "cpu").recipe == older
    tf32 = FACTORY.describe(options(models["dac"], precision="tf32"), "cpu").recipe
    assert tf32 == FACTORY.describe(options(models["dac"], tf32=True), "cpu").recipe == {**older, "tf32": True}
    narrow = FACTORY.describe(options(models["dac"], precision="bf16"), "cpu").recipe
    assert narrow == {**older, "dtype": "bfloat16", "precision": "bf16"}


def test_a_clip_that_is_too_short(backends: dict[str, HfCodec]) -> None:
    """As among single clips."""
    with pytest.raises(ClipError, match="0 samples") as caught:
        backends["dac"].encode_lanes([clip(512), clip(0)], LaneShape(LANES, 512))
    assert caught.value.kind == "too_short"


@pytest.mark.parametrize(("lanes", "fewer"), [(4, 2), (1, 0)])
def test_running_out_of_memory_names_fewer_lanes(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, lanes: int, fewer: int
) -> None:
    """It is the machine's trouble, and half of the lanes need half of the memory."""
    backend = FACTORY.load(options(models["dac"], lanes=lanes), "cpu")
    monkeypatch.setattr(backend._model.encoder, "forward", lambda *_args: torch.empty(1 << 60))
    with pytest.raises(InfrastructureError, match=rf"take --set lanes={fewer} \(another recipe.*--output-dir"):
        backend.encode_lanes([clip(1000)], LaneShape(lanes, 1024))
