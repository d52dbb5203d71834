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
from support.tiny_higgs import build_original_layout, build_transformers_layout, speech_like

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.higgs.backend import FACTORY
from audio_tokenizers.higgs.files import open_checkpoint
from audio_tokenizers.higgs.weights import load_encoder

NORM, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("built")
    return {"original": build_original_layout(base / "o"), "transformers": build_transformers_layout(base / "t")}


def read(path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    return load_file(path) if path.suffix == ".safetensors" else dict(torch.load(path, weights_only=True))


Rewrite = Callable[..., Path]


@pytest.fixture
def rewrite(built: dict[str, Path], tmp_path: Path) -> Rewrite:
    """Makes a copy of a layout with some tensors changed (None: removed)."""

    def make(layout: str, changes: dict[str, Any], **save_options: Any) -> Path:
        import torch
        from safetensors.torch import save_file

        directory = shutil.copytree(built[layout], tmp_path / "model", dirs_exist_ok=True)
        path = next(entry for entry in directory.iterdir() if entry.suffix in {".pth", ".safetensors"})
        state = {name: tensor for name, tensor in (read(path) | changes).items() if tensor is not None}
        if layout == "transformers":
            save_file(state, path)
        else:
            torch.save(state, path, **save_options)
        return directory

    return make


def tokens(directory: Path) -> npt.NDArray[Any]:
    return FACTORY.load({"model_path": str(directory), "tf32": False}, "cpu").encode([speech_like(24119)])[0]


def refusal(directory: Path) -> str:
    with pytest.raises(ModelFilesError) as caught:
        load_encoder(open_checkpoint(str(directory)), "cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def test_only_the_encode_part_is_kept_in_float32(built: dict[str, Path]) -> None:
    """The decoder costs memory for nothing; whatever is left has storage, and no gradients."""
    for directory in built.values():
        model = load_encoder(open_checkpoint(str(directory)), "cpu")
        state = model.state_dict()
        parts = {"acoustic_encoder", "encoder_semantic", "semantic_model", "fc", "quantizer"}
        assert {name.split(".")[0] for name in state} == parts
        assert {(str(tensor.dtype), tensor.device.type) for tensor in state.values()} == {("torch.float32", "cpu")}
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(name.endswith(("original0", "original1", "weight_g", "weight_v")) for name in state)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("original", "encoder.block.0.weight_v"),
        ("original", "encoder.block.3.block.1.block.3.bias"),
        ("original", "encoder_semantic.conv_blocks.1.conv.conv.bias"),
        ("original", "quantizer.vq.layers.7._codebook.embed"),
        ("original", "quantizer.vq.layers.0._codebook.inited"),
        ("original", "semantic_model.encoder.layers.1.attention.q_proj.bias"),
        ("original", f"semantic_model.encoder.pos_conv_embed.conv.{NORM}"),
        ("original", "semantic_model.feature_projection.projection.weight"),
        ("original", "fc_prior.weight"),
        ("transformers", "fc.weight"),
        ("transformers", "acoustic_encoder.block.4.conv1.weight"),
        ("transformers", "quantizer.quantizers.3.project_out.weight"),
    ],
)
def test_a_missing_tensor_is_an_error_under_its_name_in_the_file(rewrite: Rewrite, layout: str, name: str) -> None:
    """Boson's loader would leave it random and say nothing."""
    message = refusal(rewrite(layout, {name: None}))
    assert "missing" in message
    # Half a weight norm: the weight that the pair should have made is what lacks.
    assert name.removesuffix(f".{NORM}").removesuffix("_v") in message


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("original", "quantizer.vq.layers.8.project_in.weight"),
        ("original", "quantizer.vq.layers.0.codebook.embed"),
        ("original", "encoder_semantic.conv.weight"),
        ("original", "encoder.block.3.weight"),
        ("original", "semantic_model.encoder.layers.2.layer_norm.bias"),
        ("original", "module.semantic_model.encoder.extra"),
        ("transformers", "acoustic_encoder.extra"),
        ("transformers", "quantizer.quantizers.8.project_in.weight"),
    ],
)
def test_a_surplus_tensor_below_a_used_module_is_an_error_under_its_name_in_the_file(
    rewrite: Rewrite, layout: str, name: str
) -> None:
    """A name that nothing takes means that this is another network, or a spelling that would be ignored."""
    import torch

    assert f"1 unknown: {name}" in refusal(rewrite(layout, {name: torch.ones(3)}))


def test_a_weight_beside_its_own_norm_is_an_error(rewrite: Rewrite) -> None:
    """One of them was meant to be replaced by the other."""
    import torch

    message = refusal(rewrite("original", {"encoder.block.0.weight": torch.ones(4, 1, 7)}))
    assert "encoder.block.0.weight_g and encoder.block.0.weight" in message


def test_what_a_trainer_saved_is_taken(
    built: dict[str, Path], rewrite: Rewrite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that was trained on, with its discriminator, optimizer and prefix, gives the tokens of its weights."""
    import torch

    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.INFO, "tar2tokens")
    state = {f"module.{name}": tensor for name, tensor in read(built["original"] / "model.pth").items()}
    state["module.discriminator.weight"] = torch.ones(1)
    directory = rewrite("original", {})
    torch.save({"model": state, "optimizer": {"state": {}}}, directory / "model.pth")
    assert np.array_equal(tokens(directory), tokens(built["original"]))
    expected = f"{directory / 'model.pth'}: not used: model.module.discriminator, optimizer"
    assert [record.message for record in caplog.records] == [expected]


def test_a_config_of_a_model_that_was_trained_on_is_taken(built: dict[str, Path], rewrite: Rewrite) -> None:
    """Its HuBERT has what masks spans in training, which plays no part in encoding, whether the file has it or not."""
    config = json.loads((built["transformers"] / "config.json").read_text())
    assert config["semantic_model_config"]["mask_time_prob"] > 0
    assert "semantic_model.masked_spec_embed" in read(built["transformers"] / "model.safetensors")
    untrained = rewrite("transformers", {"semantic_model.masked_spec_embed": None})
    config["semantic_model_config"]["mask_time_prob"] = 0.0
    (untrained / "config.json").write_text(json.dumps(config))
    assert np.array_equal(tokens(built["transformers"]), tokens(untrained))


def test_at_most_five_names_of_each_kind_are_listed(rewrite: Rewrite) -> None:
    """A wholly foreign file is one readable line."""
    import torch

    message = refusal(rewrite("original", {f"encoder.foreign.{i}": torch.ones(1) for i in range(9)}))
    assert "9 unknown: encoder.foreign.0, " in message
    assert message.endswith("encoder.foreign.4, ...")


@pytest.mark.parametrize(("layout", "name"), [("original", "fc_prior.weight"), ("transformers", "fc.weight")])
def test_a_tensor_of_another_shape_is_an_error_with_both_shapes(rewrite: Rewrite, layout: str, name: str) -> None:
    """So is a config that belongs to other weights."""
    import torch

    message = refusal(rewrite(layout, {name: torch.ones(5, 7)}))
    assert f"{name} [5, 7] instead of [" in message


def test_a_norm_that_does_not_belong_to_its_direction_is_not_broadcast(rewrite: Rewrite) -> None:
    """A weight norm of another shape could otherwise be multiplied out to something of the right one."""
    import torch

    assert "encoder.block.0.weight_g" in refusal(rewrite("original", {"encoder.block.0.weight_g": torch.ones(1, 1, 7)}))


def test_an_untrained_codebook_is_an_error(rewrite: Rewrite) -> None:
    """Boson would run k-means on the first clip it meets, and give tokens that no other run has."""
    import torch

    message = refusal(rewrite("original", {"quantizer.vq.layers.5._codebook.inited": torch.zeros(1)}))
    assert "untrained" in message
    assert "quantizer.vq.layers.5._codebook.inited" in message


def test_known_tensors_that_encoding_does_not_use_may_be_there_or_not(
    built: dict[str, Path], rewrite: Rewrite, tmp_path: Path
) -> None:
    """A decoder, a training mask and the stray fc1 of the published file do not change a token, nor does their absence."""
    import torch

    mask = {"semantic_model.masked_spec_embed": None}
    assert np.array_equal(tokens(rewrite("transformers", mask)), tokens(built["transformers"]))
    shutil.rmtree(tmp_path / "model")
    expected = tokens(built["original"])
    unused = ("decoder_2.", "decoder_semantic.", "fc_post", "semantic_model.masked_spec_embed")
    names = [name for name in read(built["original"] / "model.pth") if name.startswith(unused)]
    assert len(names) > 100
    assert np.array_equal(tokens(rewrite("original", {"fc1.weight": torch.ones(2, 2)})), expected)
    assert np.array_equal(tokens(rewrite("original", dict.fromkeys(names))), expected)


def test_both_spellings_of_weight_norm_give_the_same_tokens(built: dict[str, Path], rewrite: Rewrite) -> None:
    """Which one a file has depends on the torch and transformers that wrote it."""
    other = {"weight_g": NORM, "weight_v": DIRECTION, NORM: "weight_g", DIRECTION: "weight_v"}
    changes: dict[str, Any] = {}
    for name, tensor in read(built["original"] / "model.pth").items():
        for leaf, spelling in other.items():
            if name.endswith(f".{leaf}"):
                changes |= {name: None, f"{name.removesuffix(leaf)}{spelling}": tensor}
    assert len(changes) > 100
    assert np.array_equal(tokens(rewrite("original", changes)), tokens(built["original"]))


def test_a_file_of_the_old_torch_format_loads_too(built: dict[str, Path], rewrite: Rewrite) -> None:
    """Before 1.6 torch.save wrote no zip, which cannot be mapped."""
    directory = rewrite("original", {}, _use_new_zipfile_serialization=False)
    assert np.array_equal(tokens(directory), tokens(built["original"]))
    data = (directory / "model.pth").read_bytes()
    (directory / "model.pth").write_bytes(data[: len(data) // 2])
    assert "download it again" in refusal(directory)


def test_weights_of_half_precision_are_computed_in_float32(built: dict[str, Path], rewrite: Rewrite) -> None:
    """The declared dtype is that of the computation, whatever a checkpoint was saved in."""
    half = {name: tensor.half() for name, tensor in read(built["transformers"] / "model.safetensors").items()}
    model = load_encoder(open_checkpoint(str(rewrite("transformers", half))), "cpu")
    assert {str(tensor.dtype) for tensor in model.state_dict().values()} == {"torch.float32"}


def test_a_pickle_that_is_no_state_dict_is_refused(built: dict[str, Path], tmp_path: Path) -> None:
    """Another dictionary, or a list, holds none of the weights."""
    import torch

    directory = shutil.copytree(built["original"], tmp_path / "model")
    torch.save([torch.ones(1)], directory / "model.pth")
    assert "state dict" in refusal(directory)
    torch.save({"weight": torch.ones(1)}, directory / "model.pth")
    assert "1 missing: encoder.block.0.weight" in refusal(directory)


def test_a_hubert_that_the_shapes_do_not_determine_is_refused(rewrite: Rewrite) -> None:
    """With layer norms in the feature extractor the order of norms in the layers is unknown: no guess is made."""
    import torch

    name = "semantic_model.feature_extractor.conv_layers.1.layer_norm.weight"
    assert "HuBERT base" in refusal(rewrite("original", {name: torch.ones(16)}))


def test_a_config_that_transformers_refuses_is_one_message(built: dict[str, Path], tmp_path: Path) -> None:
    """Transformers checks types itself, and raises its own errors."""
    directory = shutil.copytree(built["transformers"], tmp_path / "model")
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"kernel_size": 3', '"kernel_size": "three"'))
    assert "config.json" in refusal(directory)
