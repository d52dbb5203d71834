from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tiny_higgs import build_original_layout, build_transformers_layout

from audio_tokenizers.errors import InfrastructureError, ModelFilesError
from audio_tokenizers.higgs.backend import FACTORY

REFERENCE = Path(__file__).parents[2] / "support" / "boson_decode.py"
DECODER = ("decoder_2.", "fc_post2.")


def options(directory: Path) -> dict[str, str | bool]:
    return {"model_path": str(directory), "tf32": False}


def grid(frames: int, seed: int = 0) -> npt.NDArray[Any]:
    """Codes [8, frames]."""
    return np.random.default_rng(seed).integers(0, 1024, (8, frames))


def with_decoder(directory: Path) -> Path:
    """Random weights in the decoder, which the tiny checkpoint fills with ones."""
    import torch

    state = torch.load(directory / "model.pth", weights_only=True)
    generator = torch.Generator().manual_seed(7)
    for name in [name for name in state if name.startswith(DECODER)]:
        shape = state[name].shape
        size = shape[1:].numel() if name.endswith("weight_v") else shape[-1]
        spread = 0.3 if name.endswith(("alpha", "weight_g")) else size**-0.5
        mean = 1.0 if name.endswith(("alpha", "weight_g")) else 0.0
        state[name] = mean + spread * torch.randn(shape, generator=generator)
    torch.save(state, directory / "model.pth")
    return directory


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_decoder(build_original_layout(tmp_path_factory.mktemp("original")))


@pytest.fixture(scope="module")
def transformers_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_transformers_layout(tmp_path_factory.mktemp("transformers"))


def test_samples_equal_those_of_boson(original: Path, tmp_path: Path) -> None:
    """From the original file, each sample is the one of boson's own decode, bit for bit."""
    codes: dict[str, Any] = {str(frames): grid(frames, frames) for frames in (1, 2, 7, 25)}
    np.savez(tmp_path / "codes.npz", **codes)
    command = [sys.executable, str(REFERENCE), str(original), str(tmp_path / "codes.npz"), str(tmp_path / "waves.npz")]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"boson-multimodal failed (pip install --no-deps -r requirements/boson.txt): {done.stderr}"
    decoder = FACTORY.load_decoder(options(original), "cpu")
    ours = {name: decoder.decode(codes[name]) for name in codes}
    with np.load(tmp_path / "waves.npz") as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in codes)
    assert [len(ours[name]) for name in codes] == [960 * int(name) for name in codes]
    assert ours["25"].dtype == np.float32
    assert ours["25"].std() > 0.001


def test_samples_equal_those_of_transformers(transformers_layout: Path, tmp_path: Path) -> None:
    """From transformers' layout, each sample is the one of its own decode; in shards too."""
    import torch
    from transformers import HiggsAudioV2TokenizerModel

    model: Any = HiggsAudioV2TokenizerModel.from_pretrained(transformers_layout).eval()
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    with torch.inference_mode():
        expected = model.decode(torch.from_numpy(grid(30))[None]).audio_values.reshape(-1).numpy()
    for directory in (transformers_layout, tmp_path):
        assert np.array_equal(FACTORY.load_decoder(options(directory), "cpu").decode(grid(30)), expected)


def test_both_layouts_give_the_same_samples(original: Path, tmp_path: Path) -> None:
    """One set of weights gives one waveform, whichever layout it is kept in."""
    from transformers import HiggsAudioV2TokenizerModel

    from audio_tokenizers.higgs.decoder import _model_config, _read
    from audio_tokenizers.higgs.files import open_checkpoint

    checkpoint = open_checkpoint(str(original))
    weights = _read(checkpoint, "cpu")
    config = _model_config(checkpoint, weights)
    semantic = config.semantic_model_config
    semantic.num_hidden_layers, semantic.intermediate_size, semantic.conv_dim = 1, 8, [8] * 7
    semantic.num_conv_pos_embeddings = 16
    model: Any = HiggsAudioV2TokenizerModel(config)
    assert not model.load_state_dict(weights.tensors, strict=False).unexpected_keys
    model.save_pretrained(tmp_path)
    ours = FACTORY.load_decoder(options(original), "cpu").decode(grid(20))
    assert np.array_equal(ours, FACTORY.load_decoder(options(tmp_path), "cpu").decode(grid(20)))


def test_a_file_without_a_decoder_is_named(original: Path, tmp_path: Path) -> None:
    """A file that was cut down to its encoder still encodes, and says of decoding what it lacks."""
    import torch

    state = torch.load(original / "model.pth", weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith(DECODER)}, tmp_path / "model.pth")
    shutil.copy(original / "config.json", tmp_path)
    assert FACTORY.load(options(tmp_path), "cpu").encode([np.zeros(960, np.float32)])[0].shape == (8, 1)
    with pytest.raises(ModelFilesError, match=r"model\.pth: expected the weights of a decoder too"):
        FACTORY.load_decoder(options(tmp_path), "cpu")


@pytest.mark.parametrize("layout", ["original", "transformers"])
@pytest.mark.parametrize("fault", ["missing", "surplus", "misshapen"])
def test_weights_that_do_not_fit_are_named(
    original: Path, transformers_layout: Path, tmp_path: Path, layout: str, fault: str
) -> None:
    """A missing, surplus or misshapen tensor of the decoder is an error that names it, in both layouts."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(original if layout == "original" else transformers_layout, tmp_path / "model")
    file = folder / ("model.pth" if layout == "original" else "model.safetensors")
    state = torch.load(file, weights_only=True) if layout == "original" else load_file(file)
    bias = "decoder_2.model.0.bias" if layout == "original" else "acoustic_decoder.conv1.bias"
    message = {"missing": "1 missing: ", "surplus": "1 unknown: ", "misshapen": "1 of another shape: "}[fault]
    if fault == "missing":
        del state[bias]
    elif fault == "misshapen":
        state[bias] = state[bias][:5].clone()
    else:
        state[bias.replace("bias", "extra")] = state[bias].clone()
    torch.save(state, file) if layout == "original" else save_file(state, file, metadata={"format": "pt"})
    name = re.escape(bias.replace("bias", "extra") if fault == "surplus" else bias)
    with pytest.raises(ModelFilesError, match=rf"{file.name}: .*{message}{name}"):
        FACTORY.load_decoder(options(folder), "cpu")


def test_a_config_that_does_not_fit_is_named(
    transformers_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers refuses names the config, and a missing device is named before any weight is read."""
    import torch

    folder = shutil.copytree(transformers_layout, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"codebook_dim": "wide"}))
    with pytest.raises(ModelFilesError, match=r"config\.json: transformers refuses this config"):
        FACTORY.load_decoder(options(folder), "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InfrastructureError, match="no CUDA device"):
        FACTORY.load_decoder(options(transformers_layout), "cuda")
