from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, wave
from support.make_cosyvoice_s3_golden import CASES, GOLDEN, VARIANTS
from support.tiny_s3 import build_s3_onnx, initializers_sha256

from audio_tokenizers.base import BackendInfo, Batching, Utterance
from audio_tokenizers.cosyvoice_s3.backend import FACTORY, CosyVoiceS3
from audio_tokenizers.errors import ClipError, InfrastructureError, ModelFilesError, UsageError

RATE = 16000
PIECE = 30 * RATE


def options(path: Path, engine: str = "torch", *, tf32: bool = False) -> dict[str, str | bool]:
    return {"model_path": str(path), "engine": engine, "tf32": tf32}


@pytest.fixture(scope="module", params=list(VARIANTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def onnx(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    version, rate = VARIANTS[name]
    return build_s3_onnx(tmp_path_factory.mktemp("s3") / "speech_tokenizer.onnx", version, rate)


@pytest.fixture(scope="module")
def backend(onnx: Path) -> CosyVoiceS3:
    return FACTORY.load(options(onnx), "cpu")


@pytest.fixture(scope="module")
def reference(onnx: Path) -> CosyVoiceS3:
    return FACTORY.load(options(onnx, "onnx"), "cpu")


@pytest.fixture(scope="module")
def golden(name: str) -> tuple[list[npt.NDArray[Any]], str]:
    """Tokens of each case, as CosyVoice's tool gave them, and the weights it had."""
    with np.load(GOLDEN) as file:
        assert json.loads(str(file["cases"])) == [asdict(case) for case in CASES]
        tokens = np.split(file[f"{name}_tokens"], np.cumsum(file[f"{name}_counts"])[:-1])
        return tokens, str(file[f"{name}_sha256"])


def heard(backend: CosyVoiceS3) -> list[Utterance]:
    """The golden cases as the pipeline hands them over."""
    clips = []
    for case in CASES:
        mono = wave(case.audio()).mean(axis=1, dtype=np.float32)
        clips.append(Utterance(backend.resample(mono, case.rate)))
    return clips


def encode(backend: CosyVoiceS3, clips: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    return [np.asarray(values["tokens"]) for values in backend.encode_clips([Utterance(clip) for clip in clips])]


def test_weights_are_those_of_the_golden_tokens(onnx: Path, golden: tuple[list[npt.NDArray[Any]], str]) -> None:
    """A drift of the generator of weights is named as such, and not taken for other tokens."""
    assert initializers_sha256(onnx) == golden[1]


def test_golden_tokens_tell_computations_apart(golden: tuple[list[npt.NDArray[Any]], str]) -> None:
    """Tokens of a model that has collapsed would prove nothing."""
    tokens = np.concatenate(golden[0])
    assert len(np.unique(tokens)) >= 150
    assert np.bincount(tokens).max() < 0.25 * len(tokens)


def test_tokens_are_those_of_the_cosyvoice_tool(backend: CosyVoiceS3, golden: tuple[list[npt.NDArray[Any]], str]) -> None:
    """All clips in one batch, in torch, give what upstream's tool gave for each alone."""
    values = backend.encode_clips(heard(backend))
    for case, ours, theirs in zip(CASES, values, golden[0], strict=True):
        assert np.array_equal(ours["tokens"], theirs[np.newaxis]), case


def test_onnxruntime_gives_the_tokens_of_the_cosyvoice_tool(
    reference: CosyVoiceS3, golden: tuple[list[npt.NDArray[Any]], str]
) -> None:
    """So does the other engine, one clip at a time."""
    for case, clip, theirs in zip(CASES, heard(reference), golden[0], strict=True):
        assert np.array_equal(reference.encode_clips([clip])[0]["tokens"], theirs[np.newaxis]), case


def test_a_batch_gives_the_tokens_of_single_clips(backend: CosyVoiceS3) -> None:
    """In any composition and order, 30 s beside 13 ms."""
    clips = [wave(pcm(samples, 997 * samples)) for samples in (201, 640, 1000, 16001, 33333, 52000, 70007, 160000)]
    single = [encode(backend, [clip])[0] for clip in clips]
    generator = np.random.default_rng(0)
    for _ in range(10):
        chosen = generator.integers(len(clips), size=generator.integers(2, 12))
        for index, tokens in zip(chosen, encode(backend, [clips[index] for index in chosen]), strict=True):
            assert np.array_equal(tokens, single[index])


def test_long_clips_are_cut_every_30_seconds(backend: CosyVoiceS3, reference: CosyVoiceS3) -> None:
    """Each piece is encoded as a clip of its own, and their tokens stand one after the other."""
    clip = wave(pcm(2 * PIECE + 70000))
    pieces = encode(backend, [clip[:PIECE], clip[PIECE : 2 * PIECE], clip[2 * PIECE :]])
    expected = np.concatenate(pieces, axis=1)
    assert pieces[0].shape[1] == PIECE // backend.info.hop_length
    assert np.array_equal(encode(backend, [clip])[0], expected)
    assert np.array_equal(encode(reference, [clip])[0], expected)


@pytest.mark.parametrize(("rest", "tokens"), [(1, 0), (200, 0), (201, 1), (319, 1)])
def test_a_rest_without_a_spectrogram_gives_no_token(backend: CosyVoiceS3, rest: int, tokens: int) -> None:
    """Up to 200 samples behind a cut are dropped, more are encoded."""
    clip = wave(pcm(PIECE + rest))
    found = encode(backend, [clip])[0]
    assert found.shape[1] == PIECE // backend.info.hop_length + tokens
    if tokens:
        assert np.array_equal(found[:, -1:], encode(backend, [clip[PIECE:]])[0])


def test_info_matches_what_comes_out(backend: CosyVoiceS3, reference: CosyVoiceS3, onnx: Path) -> None:
    """The pipeline relies on rates and ranges; the two engines are two recipes."""
    info, field = backend.info, backend.info.fields[0]
    tokens = encode(backend, [wave(pcm(100000))])[0]
    assert tokens.dtype == np.int16
    assert 0 <= tokens.min() <= tokens.max() < field.codebook_size
    assert abs(tokens.shape[1] * info.hop_length - 100000) <= field.slack * info.hop_length
    assert field.samples_per_item == info.hop_length
    assert (info.batching, info.max_tokens_per_fragment, info.mono) == (Batching.ANY, None, "mean")
    assert (reference.info.batching, reference.info.max_batch) == (Batching.SINGLE, 1)
    assert info == FACTORY.describe(options(onnx), "cpu")
    assert info.recipe != reference.info.recipe
    assert {"weights_sha256", "torch", "s3tokenizer", "rows_per_product", "piece_samples"} <= set(info.recipe)
    assert {"weights_sha256", "onnxruntime", "piece_samples"} <= set(reference.info.recipe)


def test_upstream_is_onnxruntime(onnx: Path) -> None:
    """CosyVoice's tool runs the graph in onnxruntime: both words are one recipe, and runs of either go on."""
    for device in ("cpu", "cuda"):
        assert _described(onnx, "upstream", device) == _described(onnx, "onnx", device)


def _described(onnx: Path, engine: str, device: str) -> BackendInfo | str:
    try:
        return FACTORY.describe(options(onnx, engine), device)
    except UsageError as error:  # onnxruntime-gpu is not installed
        return str(error)


def test_the_engine_suits_the_device(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What auto chose is in the recipe as if it had been asked for."""
    monkeypatch.setattr("audio_tokenizers.cosyvoice_s3.backend._versions", lambda **_: {})
    for device, engine in (("cpu", "onnx"), ("cuda:1", "torch")):
        assert FACTORY.describe(options(onnx, "auto"), device) == FACTORY.describe(options(onnx, engine), device)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_torch_has_one_thread(onnx: Path, engine: str) -> None:
    """With either engine, in whichever thread: with four, the mel of some clips differs in its last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        FACTORY.load(options(onnx, engine), "cpu")
        with ThreadPoolExecutor(1) as device:
            assert device.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(threads)


def test_bfloat16_is_a_matter_of_the_torch_engine(onnx: Path) -> None:
    """The graph has its types written into it, so that `auto` takes torch, on a CPU too; its recipe says so."""
    narrow = FACTORY.describe({**options(onnx, "auto"), "precision": "bf16"}, "cpu")
    assert narrow.recipe == {**FACTORY.describe(options(onnx), "cpu").recipe, "dtype": "bfloat16", "precision": "bf16"}
    clips = [wave(pcm(16000 + 160 * number)) for number in range(3)]
    backend = FACTORY.load({**options(onnx, "auto"), "precision": "bf16"}, "cpu")
    assert [tokens.shape for tokens in encode(backend, clips)] == [
        tokens.shape for tokens in encode(FACTORY.load(options(onnx), "cpu"), clips)
    ]
    with pytest.raises(UsageError, match=r"expected fp32 or tf32, found bf16: the graph.*engine=torch"):
        FACTORY.describe({**options(onnx, "onnx"), "precision": "bf16"}, "cpu")


@pytest.mark.parametrize("samples", [0, 1, 200])
def test_clips_too_short_are_named(backend: CosyVoiceS3, samples: int) -> None:
    """Upstream's tool dies of one such clip, and its whole run with it."""
    with pytest.raises(ClipError, match="201") as raised:
        encode(backend, [np.zeros(samples, np.float32)])
    assert raised.value.kind == "too_short"
    assert backend.info.min_samples == 201


@pytest.mark.parametrize("engine", ["tensorrt", None])
def test_other_engines_are_refused(tmp_path: Path, engine: str | None) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match="engine: expected auto, torch, onnx or upstream"):
        FACTORY.describe({**options(tmp_path), "engine": engine}, "cpu")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """Whatever the name says."""
    path = tmp_path / "speech_tokenizer_v1.onnx"
    path.write_bytes(b"PK\x03\x04 not a model at all")
    with pytest.raises(ModelFilesError, match=r"speech_tokenizer_v1\.onnx"):
        FACTORY.describe(options(tmp_path), "cpu")


def test_no_gpu_is_the_machines_fault(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without CUDA ends the attempt, and onnxruntime's silent fallback to the CPU is none."""
    monkeypatch.setattr("audio_tokenizers.cosyvoice_s3.backend._versions", lambda **_: {})
    with pytest.raises(InfrastructureError, match="cuda"):
        FACTORY.load(options(onnx, "onnx"), "cuda")
