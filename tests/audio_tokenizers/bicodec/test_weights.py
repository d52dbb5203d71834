from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, wave
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.base import Utterance
from audio_tokenizers.bicodec.backend import FACTORY
from audio_tokenizers.bicodec.files import open_bicodec
from audio_tokenizers.bicodec.weights import load_bicodec, load_wav2vec2
from audio_tokenizers.errors import ModelFilesError

BICODEC, WAV2VEC2 = "BiCodec/model.safetensors", "wav2vec2-large-xlsr-53/pytorch_model.bin"
NORM, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
LOADERS = {BICODEC: load_bicodec, WAV2VEC2: load_wav2vec2}
POSITIONAL = "wav2vec2.encoder.pos_conv_embed.conv"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spark_tts(tmp_path_factory.mktemp("spark"))


Rewrite = Callable[..., Path]


def read(path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    return load_file(path) if path.suffix == ".safetensors" else dict(torch.load(path, weights_only=True))


@pytest.fixture
def rewrite(built: Path, tmp_path: Path) -> Rewrite:
    """Makes a checkpoint with some tensors of one file changed (None: removed), then all of them by `change`."""

    def make(name: str, changes: dict[str, Any], change: Callable[[Any], Any] = lambda state: state) -> Path:
        import torch
        from safetensors.torch import save_file

        directory = tmp_path / "model"
        if not directory.exists():
            shutil.copytree(built, directory, copy_function=link)
        state = {key: value for key, value in (read(built / name) | changes).items() if value is not None}
        (directory / name).unlink()
        (save_file if name == BICODEC else torch.save)(change(state), directory / name)
        return directory

    return make


def link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def tokens(directory: Path) -> npt.NDArray[Any]:
    backend = FACTORY.load({"model_path": str(directory), "volume_normalize": True, "tf32": False}, "cpu")
    return np.concatenate(list(backend.encode_clips([Utterance(wave(pcm(16000, 40000)))])[0].values()))


def refusal(directory: Path, name: str) -> str:
    checkpoint = open_bicodec(str(directory))
    with pytest.raises(ModelFilesError) as caught:
        LOADERS[name](checkpoint, "cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory / name) in message
    return message


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (BICODEC, "encoder.downsample.1.1.convnext.1.gamma"),
        (BICODEC, "quantizer.in_project.weight_g"),
        (BICODEC, "speaker_encoder.speaker_encoder.layer3.se_res2block.1.bns.6.running_var"),
        (BICODEC, "speaker_encoder.quantizer.project_in.bias"),
        (WAV2VEC2, "wav2vec2.encoder.layers.15.final_layer_norm.bias"),
        (WAV2VEC2, f"{POSITIONAL}.weight_v"),
    ],
)
def test_a_missing_tensor_is_named(rewrite: Rewrite, name: str, tensor: str) -> None:
    """Upstream would go on with random numbers in its place."""
    assert "missing" in refusal(rewrite(name, {tensor: None}), name)


@pytest.mark.parametrize("name", [BICODEC, WAV2VEC2])
def test_a_tensor_that_nobody_knows_is_named(rewrite: Rewrite, name: str) -> None:
    """It may mean another variant of the network."""
    import torch

    key = "encoder.extra.weight" if name == BICODEC else "wav2vec2.encoder.extra.weight"
    assert f"1 unknown: {key}" in refusal(rewrite(name, {key: torch.zeros(2)}), name)


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        (BICODEC, "quantizer.in_project.weight_g", (1, 40, 1)),
        (BICODEC, "speaker_encoder.speaker_encoder.layer1.conv.weight", (512, 80, 5)),
        (WAV2VEC2, f"{POSITIONAL}.weight_g", (32, 1, 1)),
    ],
)
def test_a_tensor_of_another_shape_is_named(rewrite: Rewrite, name: str, tensor: str, shape: tuple[int, ...]) -> None:
    """A config that does not belong to the weights, or the other way round."""
    import torch

    assert f"{list(shape)}" in refusal(rewrite(name, {tensor: torch.zeros(shape)}), name)


def test_what_encoding_does_not_need_may_be_left_out(built: Path, rewrite: Rewrite) -> None:
    """A file without the decoder, or without wav2vec2's upper layers and its head, gives the same tokens."""
    kept = tuple(
        f"{part}." for part in ("encoder", "quantizer.in_project", "quantizer.codebook", "speaker_encoder.perceiver_sampler")
    )
    kept += ("speaker_encoder.quantizer.project_in.", *(f"speaker_encoder.speaker_encoder.layer{n}." for n in (1, 2, 3, 4)))
    kept += ("speaker_encoder.speaker_encoder.conv.",)
    rewrite(BICODEC, {}, lambda state: {name: value for name, value in state.items() if name.startswith(kept)})
    upper = ("project_", "quantizer.", "wav2vec2.encoder.layers.16.", "wav2vec2.encoder.layers.17.", "wav2vec2.masked")
    directory = rewrite(
        WAV2VEC2, {}, lambda state: {name: value for name, value in state.items() if not name.startswith(upper)}
    )
    assert (directory / BICODEC).stat().st_size < (built / BICODEC).stat().st_size
    assert np.array_equal(tokens(directory), tokens(built))


def test_each_spelling_of_a_weight_norm_gives_the_same_tokens(built: Path, rewrite: Rewrite) -> None:
    """The published files have torch's old spelling; newer versions of transformers write the other."""

    def respell(state: dict[str, Any]) -> dict[str, Any]:
        spelling = {"weight_g": NORM, "weight_v": DIRECTION}
        renamed = {name: name.rpartition(".")[2] for name in state}
        return {
            name.replace(leaf, spelling[leaf]) if (leaf := renamed[name]) in spelling else name: value
            for name, value in state.items()
        }

    rewrite(BICODEC, {}, respell)
    assert np.array_equal(tokens(rewrite(WAV2VEC2, {}, respell)), tokens(built))


def test_wav2vec2_may_be_saved_without_its_head(built: Path, rewrite: Rewrite) -> None:
    """Names then lack their prefix: as Wav2Vec2Model saves itself."""

    def strip(state: dict[str, Any]) -> dict[str, Any]:
        return {name.removeprefix("wav2vec2."): state[name] for name in state if name.startswith("wav2vec2.")}

    assert np.array_equal(tokens(rewrite(WAV2VEC2, {}, strip)), tokens(built))


def test_a_fine_tuned_wav2vec2_is_taken(
    built: Path, rewrite: Rewrite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the head of another task beside it, or what a trainer keeps; the line in the log says what is not used."""
    import torch

    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.INFO, "tar2tokens")
    head = {"lm_head.weight": torch.zeros(2, 32), "lm_head.bias": torch.zeros(2)}
    directory = rewrite(WAV2VEC2, head, lambda state: {"state_dict": state, "epoch": 3})
    assert np.array_equal(tokens(directory), tokens(built))
    assert [record.message for record in caplog.records] == [f"{directory / WAV2VEC2}: not used: epoch, state_dict.lm_head"]


def test_an_adapter_behind_the_last_layer_plays_no_part(built: Path, rewrite: Rewrite) -> None:
    """What it makes of the last hidden state is none of the three that BiCodec hears."""
    import torch

    directory = rewrite(WAV2VEC2, {"wav2vec2.adapter.layers.0.conv.bias": torch.zeros(64)})
    path = directory / "wav2vec2-large-xlsr-53" / "config.json"
    config = json.loads(path.read_text()) | {"add_adapter": True}
    path.unlink()
    path.write_text(json.dumps(config))
    assert np.array_equal(tokens(directory), tokens(built))


def test_two_tensors_for_one_place_are_an_error(rewrite: Rewrite) -> None:
    """With and without the prefix: nobody can know which of them is meant."""
    import torch

    name = "encoder.layers.0.layer_norm.bias"
    assert f"wav2vec2.{name} and {name}" in refusal(rewrite(WAV2VEC2, {name: torch.zeros(32)}), WAV2VEC2)


def test_mel_filters_in_the_file_are_used(built: Path, rewrite: Rewrite) -> None:
    """The published file has none, and upstream computes them; from a file that has them it takes them, and so do we."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(16000, 1024, 640, 320, 10, None, n_mels=128, power=1, norm="slaney", mel_scale="slaney")
    own = {f"mel_transformer.{name}": tensor for name, tensor in mel.state_dict().items()}
    assert np.array_equal(tokens(rewrite(BICODEC, own)), tokens(built))
    other = {**own, "mel_transformer.spectrogram.window": torch.ones(640)}
    assert not np.array_equal(tokens(rewrite(BICODEC, other)), tokens(built))
    assert "missing" in refusal(rewrite(BICODEC, {**own, "mel_transformer.mel_scale.fb": None}), BICODEC)


def test_a_state_dict_of_something_else_is_refused(rewrite: Rewrite) -> None:
    """torch.save keeps anything."""
    assert "state dict" in refusal(rewrite(WAV2VEC2, {}, list), WAV2VEC2)
