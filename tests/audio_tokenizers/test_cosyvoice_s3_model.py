from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.golden_audio import pcm, wave
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers import cosyvoice_s3_model
from audio_tokenizers.cosyvoice_s3_model import TorchEncoder, rows_per_product
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.s3_onnx import OnnxEncoder, log_mel, read_variant

VARIANTS = [("v1", 25), ("v1", 50), ("v2", 25)]
FRAMES = (1, 2, 3, 5, 50, 129, 257, 300, 510, 512, 513, 700, 1022, 1025, 2050)
"""Around one tile's and two tiles' worth of tokens, at both rates."""


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def path(request, tmp_path_factory):
    version, rate = request.param
    return build_s3_onnx(tmp_path_factory.mktemp("s3") / "model.onnx", version, rate, seed=1)


@pytest.fixture(scope="module")
def encoder(path):
    return TorchEncoder(path, read_variant(path), "cpu")


@pytest.fixture(scope="module")
def narrow(path):
    """In bfloat16."""
    return TorchEncoder(path, read_variant(path), "cpu", bfloat16=True)


@pytest.fixture(scope="module")
def mels():
    return [log_mel(wave(pcm(max(201, 160 * frames), 3001 * frames))) for frames in FRAMES]


def hidden(encoder, mels):
    """What each mel became, before it is quantized."""
    import torch

    with torch.inference_mode():
        return [part.float().numpy() for rows, lengths in encoder.hidden_states(mels) for part in rows.split(lengths)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_hidden_states_know_no_other_clip(encoder, narrow, mels, precision):
    """Bit for bit, in any composition: equal tokens alone could be luck, for a border is seldom hit."""
    encoder = encoder if precision == "float32" else narrow
    single = [hidden(encoder, [mel])[0] for mel in mels]
    generator = np.random.default_rng(2)
    for count in (2, 3, 5, 8, 13, 21):
        chosen = generator.integers(len(mels), size=count)
        for index, rows in zip(chosen, hidden(encoder, [mels[index] for index in chosen]), strict=True):
            assert np.array_equal(rows, single[index])


def test_bfloat16_is_near(encoder, narrow, mels):
    """Hidden states are off by a few of its steps of 0.4 %, most tokens are the same; what decides them is float32."""
    for exact, near in zip(hidden(encoder, mels), hidden(narrow, mels), strict=True):
        assert 0 < np.linalg.norm(near - exact) / np.linalg.norm(exact) < 0.03
    equal = [a == b for a, b in zip(encoder.encode(mels), narrow.encode(mels), strict=True)]
    print(f"equal tokens, bfloat16 and float32: {np.concatenate(equal).mean():.3f}")
    assert np.concatenate(equal).mean() > 0.8
    kept = {str(parameter.dtype) for parameter in [*narrow._encoder.conv1.parameters(), *narrow._quantizer.parameters()]}
    assert kept <= {"torch.float32"}


def test_tokens_are_those_of_onnxruntime(path, encoder, mels):
    """The graph in the file is the reference, s3tokenizer's modules its port."""
    reference = OnnxEncoder(path, "cpu")
    for mel, tokens in zip(mels, encoder.encode(mels), strict=True):
        assert np.array_equal(tokens, reference.encode(mel))


def test_a_great_batch_goes_through_in_parts(encoder, mels, monkeypatch):
    """Memory is bounded, and the parts show in no token."""
    whole = encoder.encode(mels)
    monkeypatch.setattr(cosyvoice_s3_model, "MOST_ROWS", 500)
    parts = encoder.encode(mels)
    assert len(list(encoder.hidden_states(mels))) > 5
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(whole, parts, strict=True))


def test_a_gpu_gets_larger_tiles():
    """As a part of the recipe, since it decides tokens."""
    assert rows_per_product("cpu") < rows_per_product("cuda:1")


@pytest.mark.parametrize(("fault", "words"), [("surplus", "encoder.blocks.0.attn.extra"), ("misshapen", "of another shape")])
def test_weights_of_another_model_are_named(path, tmp_path, fault, words):
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


def test_a_missing_weight_is_named(path, tmp_path):
    """A graph exported otherwise, such as the first one of CosyVoice2, has other names; onnxruntime still runs it."""
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == "/blocks.1/mlp/mlp.0/MatMul")
    node.name = "/MatMul_77"
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    with pytest.raises(ModelFilesError, match=r"other\.onnx.*engine: onnx"):
        TorchEncoder(other, read_variant(other), "cpu")
    assert len(OnnxEncoder(other, "cpu").encode(log_mel(wave(pcm(16000))))) in (25, 50)


def test_a_folders_name_changes_nothing(path, tmp_path, encoder, mels):
    """s3tokenizer's load_model takes the class from any v2 or v3 in the path."""
    moved = tmp_path / "CosyVoice2_v2_v3" / "speech_tokenizer_v2.onnx"
    moved.parent.mkdir()
    shutil.copyfile(path, moved)
    other = TorchEncoder(moved, read_variant(moved), "cpu")
    assert np.array_equal(other.encode(mels[-1:])[0], encoder.encode(mels[-1:])[0])
