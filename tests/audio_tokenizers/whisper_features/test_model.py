from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm
from support.tiny_whisper import LAYERS, build_whisper

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.whisper_features.files import open_checkpoint
from audio_tokenizers.whisper_features.model import WhisperEncoder

WAVE = pcm(30000).astype(np.float32) / 32768


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whisper(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "model"))


def load(directory: Path) -> WhisperEncoder:
    return WhisperEncoder(open_checkpoint(str(directory)), "cpu")


def states(encoder: WhisperEncoder, layer: int | None = 1) -> list[npt.NDArray[Any]]:
    import torch

    with torch.inference_mode():
        return [state[0].numpy() for state in encoder.states(torch.from_numpy(encoder.mel(WAVE))[None], layer)]


def tensors(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


def save(directory: Path, state: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_only_the_encoder_is_in_memory(model: Path) -> None:
    """The decoder, more than half of the parameters, is never made: it would cost 3.6 GB in large-v3."""
    encoder = load(model)._encoder
    names = set(encoder.state_dict())
    stored = {name.removeprefix("model.encoder.") for name in tensors(model) if name.startswith("model.encoder.")}
    assert names == stored
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_shards_and_a_model_without_its_head_give_the_same_states(model: Path, copy: Path, tmp_path: Path) -> None:
    """WhisperModel saves its weights without the prefix `model.`; large checkpoints come in shards."""
    expected = states(load(model))
    bare = save(copy, {name.removeprefix("model."): tensor for name, tensor in tensors(model).items()})
    shards = build_whisper(tmp_path / "shards", shard_size="100KB")
    for directory in (bare, shards):
        for ours, theirs in zip(states(load(directory)), expected, strict=True):
            assert np.array_equal(ours, theirs)


def test_half_precision_weights_are_computed_in_float32(copy: Path, tmp_path: Path) -> None:
    """The published large-v3 is float16; products of float16 would round otherwise on each device."""
    import torch

    directory = build_whisper(tmp_path / "half", dtype="float16")
    half = tensors(directory)
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    found = states(load(directory))
    expected = states(load(save(copy, {name: tensor.float() for name, tensor in half.items()})))
    assert [state.dtype for state in found] == [np.float32] * 2
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert {parameter.dtype for parameter in load(directory)._encoder.parameters()} == {torch.float32}


def test_an_encoder_that_computes_what_no_file_has_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later transformers may do so; such a buffer would be left with whatever was in memory."""
    import torch
    from transformers.models.whisper import modeling_whisper

    class Later(modeling_whisper.WhisperEncoder):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.register_buffer("ages", torch.arange(3.0), persistent=False)

    monkeypatch.setattr(modeling_whisper, "WhisperEncoder", Later)
    with pytest.raises(UsageError, match="computes ages"):
        load(model)


def test_no_hook_is_left_behind(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that outlived its window would keep that window's states, and each further one would cost more."""
    encoder = load(model)
    states(encoder)
    with monkeypatch.context() as patch:
        patch.setattr(encoder._encoder.layer_norm, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            states(encoder)
    assert not encoder._encoder.layers[1]._forward_pre_hooks
    assert len(states(encoder)) == 2
    assert len(states(encoder, layer=None)) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: {k: v for k, v in s.items() if "encoder.layers.2.fc1.bias" not in k},
            r"1 missing: layers\.2\.fc1\.bias",
        ),
        (
            lambda s: s | {"model.encoder.layers.9.fc1.bias": s["model.encoder.layers.2.fc1.bias"].clone()},
            r"layers\.9\.fc1\.bias",
        ),
        (
            lambda s: s | {"encoder.conv1.bias": s["model.encoder.conv1.bias"].clone()},
            r"expected one tensor for conv1\.bias, found encoder\.conv1\.bias and model\.encoder\.conv1\.bias",
        ),
        (lambda s: s | {"model.encoder.conv1.bias": s["model.encoder.conv1.bias"][1:].clone()}, r"conv1\.bias \[23\]"),
        (lambda s: {k: v for k, v in s.items() if "decoder" in k}, r"missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    copy: Path, change: Callable[[dict[str, Any]], dict[str, Any]], expected: str
) -> None:
    """A missing weight would be random, a surplus one means another network: both are named with their file."""
    save(copy, change(tensors(copy)))
    with pytest.raises(ModelFilesError, match=expected) as caught:
        load(copy)
    assert str(copy / "model.safetensors") in str(caught.value)


def test_what_lies_beside_the_encoder_changes_nothing(model: Path, copy: Path) -> None:
    """A head of another task, and the prefix of data-parallel training."""
    changed = {f"module.{name}": tensor for name, tensor in tensors(model).items()}
    save(copy, changed | {"classifier.bias": changed["module.model.encoder.conv1.bias"].clone()})
    for ours, theirs in zip(states(load(copy)), states(load(model)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    "changes", [{"activation_function": "nonsense"}, {"encoder_attention_heads": 5}, {"dropout": "much"}]
)
def test_a_config_that_transformers_refuses_is_named(copy: Path, changes: dict[str, Any]) -> None:
    """It is one message with the file, not a traceback from inside transformers."""
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelFilesError, match="transformers refuses this config") as caught:
        load(copy)
    assert str(path) in str(caught.value)


def test_each_layer_can_be_taken(model: Path) -> None:
    """Layer 0 is the embedding; each further one differs from the one before."""
    encoder = load(model)
    seen = [states(encoder, layer)[0] for layer in range(LAYERS)]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(seen))
