from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from support.tiny_s3 import build_s3_onnx
from support.tiny_step_audio import FUNASR_DIRECTORY, build_step_audio

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.step_audio.backend import FACTORY
from audio_tokenizers.step_audio.files import open_checkpoint, read_centres, read_cmvn

OPTIONS = {name: default for name, (default, _) in FACTORY.options.items()}
CONFIG = f"{FUNASR_DIRECTORY}/config.yaml"
WEIGHTS = f"{FUNASR_DIRECTORY}/model.pt"
CMVN = f"{FUNASR_DIRECTORY}/am.mvn"
FILES = ["linguistic_tokenizer.npy", "speech_tokenizer_v1.onnx", WEIGHTS, CMVN, CONFIG]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("built"), feed_forward=64)


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(built, tmp_path / "model")


def refusal(directory: Path | str) -> str:
    with pytest.raises(ModelFilesError) as caught:
        open_checkpoint(str(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


def refused_at_load(directory: Path) -> str:
    with pytest.raises(ModelFilesError) as caught:
        FACTORY.load(OPTIONS | {"model_path": str(directory)}, "cpu")
    return str(caught.value)


def edit(directory: Path, section: str | None, **changes: object) -> None:
    path = directory / CONFIG
    config = yaml.safe_load(path.read_text())
    part = config if section is None else config[section]
    part |= changes
    for key in [key for key, value in changes.items() if value == "ABSENT"]:
        del part[key]
    path.write_text(yaml.safe_dump(config))


def rewrite(directory: Path, **changes: object) -> None:
    import torch

    state = torch.load(directory / WEIGHTS, weights_only=True)
    state |= {name.replace("__", "."): value for name, value in changes.items()}
    torch.save({name: value for name, value in state.items() if value is not None}, directory / WEIGHTS)


def test_what_is_read_from_a_directory(built: Path) -> None:
    """The sizes of the network come from config.yaml; files are found by their published names."""
    found = open_checkpoint(str(built))
    assert (found.width, found.heads, found.feed_forward, found.layers, found.kernel) == (512, 4, 64, 2, 11)
    assert [path.relative_to(built).as_posix() for path in found.tensors] == [WEIGHTS, CMVN, *FILES[:2]]
    assert read_centres(found).shape == (1024, 512)
    shift, scale = read_cmvn(found.cmvn)
    assert shift.shape == scale.shape == (560,)
    assert (shift.dtype, scale.dtype) == (np.dtype(np.float32), np.dtype(np.float32))
    assert shift.mean() < -10
    assert scale.min() > 0


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_what_is_there(directory: Path, name: str) -> None:
    """A half download is found on the login node."""
    (directory / name).unlink()
    message = refusal(directory)
    assert str(directory / name) in message
    assert "missing" in message


@pytest.mark.parametrize("name", FILES)
def test_a_git_lfs_pointer_is_recognised(directory: Path, name: str) -> None:
    """A clone without git-lfs leaves a text file of three lines in the place of each large file."""
    (directory / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 805000000\n")
    assert "git lfs pull" in refusal(directory)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.4])
def test_a_cut_file_is_found_before_anything_is_submitted(directory: Path, name: str, keep: float) -> None:
    """A broken download costs a message, not a thousand failed tasks."""
    data = (directory / name).read_bytes()
    (directory / name).write_bytes(data[: int(len(data) * keep)])
    assert name in refusal(directory)


@pytest.mark.parametrize("rate", [50, 25])
def test_another_s3_tokenizer_is_refused_by_what_it_is(directory: Path, rate: Literal[50, 25]) -> None:
    """CosyVoice-300M's file has the same name and twice the rate: upstream fails at the first clip, or not at all."""
    version: Literal["v1", "v2"] = "v1" if rate == 50 else "v2"
    build_s3_onnx(directory / "speech_tokenizer_v1.onnx", version=version, rate=rate)
    message = refusal(directory)
    assert str(directory / "speech_tokenizer_v1.onnx") in message
    assert "expected Step-Audio's S3 tokenizer (v1, 25 Hz" in message
    assert ("found v1, 50 Hz" if rate == 50 else "found v2") in message


@pytest.mark.parametrize(
    ("section", "changes", "expected"),
    [
        (None, {"encoder": "SANMEncoder"}, "'SANMEncoderChunkOpt'"),
        (None, {"frontend": "WavFrontend"}, "'WavFrontendOnline'"),
        (None, {"encoder_conf": "ABSENT"}, "'encoder_conf'"),
        (None, {"frontend_conf": [1]}, "'frontend_conf'"),
        ("encoder_conf", {"input_layer": "linear"}, "'input_layer'"),
        ("encoder_conf", {"input_layer": "ABSENT"}, "'conv2d'"),
        ("encoder_conf", {"normalize_before": False}, "'normalize_before'"),
        ("encoder_conf", {"concat_after": True}, "'concat_after'"),
        ("encoder_conf", {"sanm_shfit": 5}, "'sanm_shfit'"),
        ("encoder_conf", {"selfattention_layer_type": "selfattn"}, "'selfattn'"),
        ("encoder_conf", {"interctc_layer_idx": [1]}, "'interctc_layer_idx'"),
        ("encoder_conf", {"rope": True}, "rope"),
        ("encoder_conf", {"num_blocks": 0}, "'num_blocks'"),
        ("encoder_conf", {"num_blocks": "2"}, "'num_blocks'"),
        ("encoder_conf", {"attention_heads": 3}, "attention_heads"),
        ("encoder_conf", {"kernel_size": 10}, "kernel_size"),
        ("encoder_conf", {"output_size": 256}, "[1024, 256]"),
        ("frontend_conf", {"fs": 8000}, "'fs'"),
        ("frontend_conf", {"window": "povey"}, "'povey'"),
        ("frontend_conf", {"n_mels": 128}, "'n_mels'"),
        ("frontend_conf", {"lfr_n": "ABSENT"}, "'lfr_n'"),
        ("frontend_conf", {"lfr_m": 5}, "'lfr_m'"),
        ("frontend_conf", {"preemphasis": 0.9}, "preemphasis"),
    ],
)
def test_a_config_that_means_another_computation_is_refused(
    directory: Path, section: str | None, changes: dict[str, Any], expected: str
) -> None:
    """What is not understood would be ignored otherwise, and tokens be wrong without a word."""
    edit(directory, section, **changes)
    message = refusal(directory)
    assert expected in message


def test_settings_without_a_part_in_tokens_may_be_anything(directory: Path) -> None:
    """Training, the recogniser's decoder and upstream's dither, which is an option here, do not matter."""
    edit(directory, "frontend_conf", dither=1.0, cmvn_file="somewhere/am.mvn")
    edit(directory, "encoder_conf", dropout_rate=0.5, chunk_size=[5, 10])
    edit(directory, None, decoder="AnotherDecoder", optim="adam", specaug=None)
    assert open_checkpoint(str(directory)).layers == 2


@pytest.mark.parametrize(("content", "expected"), [("a: [", "YAML"), ("- 1", "list"), ("\udcff", "YAML")])
def test_a_config_that_is_no_yaml_mapping_is_refused(directory: Path, content: str, expected: str) -> None:
    """A cut or foreign config.yaml is one message."""
    (directory / CONFIG).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert expected in refusal(directory)


def test_centres_of_another_kind_are_refused(directory: Path) -> None:
    """Their number is part of the numbering of tokens."""
    path = directory / "linguistic_tokenizer.npy"
    np.save(path, np.zeros((512, 512), np.float32))
    assert "expected float32 [1024, 512], found float32 [512, 512]" in refusal(directory)
    np.save(path, np.zeros((1024, 512)))
    assert "found float64" in refusal(directory)
    np.save(path, np.array([{}]), allow_pickle=True)
    assert "numpy.save" in refusal(directory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<Nnet>\n</Nnet>", "<AddShift>"),
        ("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]", "found 2"),
        ("<AddShift> [ a b ]", "<AddShift>"),
        (f"<AddShift> [ {'1 ' * 560}]", "<Rescale>"),
        (f"<AddShift> [ {'1 ' * 559} nan ]", "finite"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(directory: Path, text: str, expected: str) -> None:
    """560 numbers each, in Kaldi's brackets."""
    (directory / CMVN).write_text(text)
    assert expected in refusal(directory)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"encoder__encoders0__0__norm1__weight": None}, "1 missing: encoder.encoders0.0.norm1.weight"),
        ({"encoder__after_norm__bias": None}, "encoder.after_norm.bias"),
        ({"encoder__encoders__1__norm1__weight": "tensor"}, "1 unknown: encoder.encoders.1.norm1.weight"),
        ({"encoder__encoders__0__feed_forward__w_1__bias": "tensor"}, "[3] instead of [64]"),
    ],
)
def test_weights_that_do_not_fit_are_named(directory: Path, changes: dict[str, Any], expected: str) -> None:
    """FunASR's loader leaves what it misses random, and says so in a line among hundreds."""
    import torch

    rewrite(directory, **{name: torch.ones(3) if value else None for name, value in changes.items()})
    message = refused_at_load(directory)
    assert expected in message
    assert str(directory / WEIGHTS) in message


def test_the_recognisers_own_weights_may_be_there_or_not(built: Path, directory: Path) -> None:
    """Of model.pt only the encoder is used."""
    import torch

    state = torch.load(built / WEIGHTS, weights_only=True)
    others = [name for name in state if not name.startswith("encoder.")]
    assert {name.split(".")[0] for name in others} == {"decoder", "predictor"}
    rewrite(directory, **{name.replace(".", "__"): None for name in others})
    FACTORY.load(OPTIONS | {"model_path": str(directory)}, "cpu")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {**state, "bias_encoder.weight_ih_l0": state["predictor.cif_output.weight"]},
    ],
)
def test_what_funasrs_loader_takes_is_taken(
    built: Path, directory: Path, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Its trainer keeps the state dict beside an optimizer, data-parallel training puts `module.` before each name."""
    import torch

    state = torch.load(built / WEIGHTS, weights_only=True)
    torch.save(wrap(state), directory / WEIGHTS)
    loaded = FACTORY.load(OPTIONS | {"model_path": str(directory)}, "cpu")
    for name, tensor in loaded._encoder._encoder.state_dict().items():
        assert torch.equal(tensor, state[f"encoder.{name}"])


def test_a_tensor_with_and_without_a_prefix_is_ambiguous(directory: Path) -> None:
    """FunASR's loader would take the one with the prefix, and say nothing."""
    import torch

    rewrite(directory, module__encoder__after_norm__bias=torch.ones(512))
    names = "encoder.after_norm.bias and module.encoder.after_norm.bias"
    assert f"found {names}: delete" in refused_at_load(directory)


def test_more_layers_than_the_config_says_are_refused(directory: Path) -> None:
    """A config of a smaller model would otherwise cut the network short."""
    edit(directory, "encoder_conf", num_blocks=1)
    assert "encoder.encoders.0" in refused_at_load(directory)
