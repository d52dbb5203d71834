from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from support.golden_audio import pcm, wave
from support.lanes import NoWaiting
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared import s3_torch
from audio_tokenizers.shared.options import Precision
from audio_tokenizers.shared.s3_onnx import OnnxEncoder, log_mel, read_variant
from audio_tokenizers.shared.s3_torch import TorchEncoder, rows_per_product

VARIANTS = [("v1", 25), ("v1", 50), ("v2", 25)]
FRAMES = (1, 2, 3, 5, 50, 129, 257, 300, 510, 512, 513, 700, 1022, 1025, 2050)
"""Around one tile's and two tiles' worth of tokens, at both rates."""


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    version, rate = request.param
    return build_s3_onnx(tmp_path_factory.mktemp("s3") / "model.onnx", version, rate, seed=1)


@pytest.fixture(scope="module")
def encoder(path: Path) -> TorchEncoder:
    return TorchEncoder(path, read_variant(path), "cpu")


@pytest.fixture(scope="module")
def narrow(path: Path) -> TorchEncoder:
    """In bfloat16."""
    return TorchEncoder(path, read_variant(path), "cpu", "bf16")


@pytest.fixture(scope="module")
def waves() -> list[Waveform]:
    return [wave(pcm(max(201, 160 * frames), 3001 * frames)) for frames in FRAMES]


def hidden(encoder: TorchEncoder, waves: Sequence[Waveform]) -> list[npt.NDArray[Any]]:
    """What each clip became, before it is quantized."""
    import torch

    with torch.inference_mode():
        rows, lengths = encoder.hidden_states(map(torch.from_numpy, waves))
        return [part.float().numpy() for part in rows.split(lengths)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_hidden_states_know_no_other_clip(
    encoder: TorchEncoder, narrow: TorchEncoder, waves: list[Waveform], precision: str
) -> None:
    """Bit for bit, in any composition: equal tokens alone could be luck, for a border is seldom hit."""
    encoder = encoder if precision == "float32" else narrow
    single = [hidden(encoder, [clip])[0] for clip in waves]
    generator = np.random.default_rng(2)
    for count in (2, 3, 5, 8, 13, 21):
        chosen = generator.integers(len(waves), size=count)
        for index, rows in zip(chosen, hidden(encoder, [waves[index] for index in chosen]), strict=True):
            assert np.array_equal(rows, single[index])


def test_bfloat16_is_near(encoder: TorchEncoder, narrow: TorchEncoder, waves: list[Waveform]) -> None:
    """Hidden states are off by a few of its steps of 0.4 %, most tokens are the same; what decides them is float32."""
    for exact, near in zip(hidden(encoder, waves), hidden(narrow, waves), strict=True):
        assert 0 < np.linalg.norm(near - exact) / np.linalg.norm(exact) < 0.03
    equal = [a == b for a, b in zip(encoder.encode(waves), narrow.encode(waves), strict=True)]
    print(f"equal tokens, bfloat16 and float32: {np.concatenate(equal).mean():.3f}")
    assert np.concatenate(equal).mean() > 0.8
    kept = {str(parameter.dtype) for parameter in [*narrow._encoder.conv1.parameters(), *narrow._quantizer.parameters()]}
    assert kept <= {"torch.float32"}


def test_tokens_are_those_of_onnxruntime(path: Path, encoder: TorchEncoder, waves: list[Waveform]) -> None:
    """The graph in the file is the reference, s3tokenizer's modules its port."""
    reference = OnnxEncoder(path, "cpu")
    for clip, tokens in zip(waves, encoder.encode(waves), strict=True):
        assert np.array_equal(tokens, reference.encode(log_mel(clip)))


def test_a_great_batch_goes_through_in_parts(
    encoder: TorchEncoder, waves: list[Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and the parts show in no token."""
    whole = encoder.encode(waves)
    groups: list[int] = []
    monkeypatch.setattr(s3_torch, "MOST_ROWS", 500)
    plain = encoder.hidden_states

    def watched(group: Any) -> Any:
        groups.append(len(group))
        return plain(group)

    monkeypatch.setattr(encoder, "hidden_states", watched)
    parts = encoder.encode(waves)
    assert len(groups) > 5
    assert sum(groups) == len(waves)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(whole, parts, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nobody_waits_for_the_device(path: Path, precision: Precision) -> None:
    """From waveforms on the device to tokens there no value is asked for, and none is copied over."""
    import torch

    encoder = TorchEncoder(path, read_variant(path), "cpu", precision)
    for part in (encoder._encoder, encoder._quantizer):
        part.to("meta")
    encoder._rotation = encoder._rotation.to("meta") if encoder._rotation is not None else None
    encoder._log_mel._window, encoder._log_mel._filters = (
        encoder._log_mel._window.to("meta"),
        encoder._log_mel._filters.to("meta"),
    )
    with torch.inference_mode(), NoWaiting():
        rows, lengths = encoder.hidden_states([torch.zeros(samples, device="meta") for samples in (201, 48000, 480000)])
        tokens = encoder._in_tiles(encoder._quantize, rows)[0]
    assert tokens.shape == (sum(lengths),)
    assert lengths[2] in (750, 1500)


def test_a_call_begins_before_the_last_has_ended(encoder: TorchEncoder, waves: list[Waveform]) -> None:
    """Tokens are asked for in any order, and of no clip there are none."""
    first, second, nothing = encoder.begin(waves[3:6]), encoder.begin(waves[:2]), encoder.begin([])
    later = second()
    assert all(map(np.array_equal, first(), encoder.encode(waves[3:6])))
    assert all(map(np.array_equal, later, encoder.encode(waves[:2])))
    assert nothing() == []


def test_a_gpu_gets_larger_tiles() -> None:
    """As a part of the recipe, since it decides tokens."""
    assert rows_per_product("cpu") < rows_per_product("cuda:1")


@pytest.mark.parametrize(("fault", "words"), [("surplus", "encoder.blocks.0.attn.extra"), ("misshapen", "of another shape")])
def test_weights_of_another_model_are_named(path: Path, tmp_path: Path, fault: str, words: str) -> None:
    """s3tokenizer's modules take just their own weights."""
    model = onnx.load(path)
    initializer = next(tensor for tensor in model.graph.initializer if tensor.name == "onnx::MatMul_blocks.0.attn.query")
    if fault == "surplus":
        extra = numpy_helper.from_array(np.ones((4, 4), np.float32), "extra")
        model.graph.initializer.append(extra)
        model.graph.node.append(
            onnx.helper.make_node("MatMul", ["extra", "extra"], ["z"], name="/blocks.0/attn/extra/MatMul")
        )
    else:
        initializer.CopyFrom(numpy_helper.from_array(np.ones((4, 4), np.float32), initializer.name))
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    with pytest.raises(ModelFilesError, match=words):
        TorchEncoder(other, read_variant(other), "cpu")


def test_a_missing_weight_is_named(path: Path, tmp_path: Path) -> None:
    """A graph exported otherwise, such as the first one of CosyVoice2, has other names; onnxruntime still runs it."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == "/blocks.1/mlp/mlp.0/MatMul")
    node.name = "/MatMul_77"
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    with pytest.raises(ModelFilesError, match=r"other\.onnx.*engine: onnx"):
        TorchEncoder(other, read_variant(other), "cpu")
    assert len(OnnxEncoder(other, "cpu").encode(log_mel(wave(pcm(16000))))) in (25, 50)


def test_a_folders_name_changes_nothing(path: Path, tmp_path: Path, encoder: TorchEncoder, waves: list[Waveform]) -> None:
    """s3tokenizer's load_model takes the class from any v2 or v3 in the path."""
    moved = tmp_path / "CosyVoice2_v2_v3" / "speech_tokenizer_v2.onnx"
    moved.parent.mkdir()
    shutil.copyfile(path, moved)
    other = TorchEncoder(moved, read_variant(moved), "cpu")
    assert np.array_equal(other.encode(waves[-1:])[0], encoder.encode(waves[-1:])[0])
