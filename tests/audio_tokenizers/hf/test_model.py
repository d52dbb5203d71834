from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_hf import CODECS, build
from support.tiny_higgs import speech_like

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.hf.backend import FACTORY

CLIP = speech_like(4000)
NORMS = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))


def options(directory: Path) -> dict[str, Any]:
    return {"model_path": str(directory), "num_quantizers": None, "bandwidth": None, "tf32": False}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {codec: build(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}


Change = Callable[[dict[str, Any]], dict[str, Any]]
Changed = Callable[[str, Change], Path]


@pytest.fixture
def changed(models: dict[str, Path], tmp_path: Path) -> Changed:
    """A copy of a codec's directory whose tensors a function has changed."""
    from safetensors.torch import load_file, save_file

    def change(codec: str, how: Change) -> Path:
        folder = shutil.copytree(models[codec], tmp_path / codec)
        save_file(how(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return change


def renamed(name: str) -> str:
    for new, old in NORMS:
        name = name.replace(new, old)
    return name


@pytest.mark.parametrize("codec", ["encodec", "xcodec"])
def test_the_older_spelling_of_weight_norms_loads(models: dict[str, Path], changed: Changed, codec: str) -> None:
    """Published files spell weight norms as weight_g and weight_v: the tokens are those of the new spelling."""
    older = changed(codec, lambda state: {renamed(name): tensor for name, tensor in state.items()})
    expected = FACTORY.load(options(models[codec]), "cpu").encode([CLIP])[0]
    assert np.array_equal(FACTORY.load(options(older), "cpu").encode([CLIP])[0], expected)


@pytest.mark.parametrize("codec", ["mimi", "dac"])
def test_shards_and_files_without_a_decoder(models: dict[str, Path], changed: Changed, tmp_path: Path, codec: str) -> None:
    """Shards give the tokens of one file, and encoding needs no decoder; decoding without one names what is missing."""
    from transformers import AutoModel

    expected = FACTORY.load(options(models[codec]), "cpu").encode([CLIP])[0]
    AutoModel.from_pretrained(models[codec]).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert np.array_equal(FACTORY.load(options(tmp_path / "shards"), "cpu").encode([CLIP])[0], expected)
    decoder = ("decoder", "upsample", "acoustic_decoder", "fc2")
    half = changed(codec, lambda state: {k: v for k, v in state.items() if not k.startswith(decoder)})
    assert np.array_equal(FACTORY.load(options(half), "cpu").encode([CLIP])[0], expected)
    with pytest.raises(ModelFilesError, match=r"\d+ missing: (acoustic_)?decoder\."):
        FACTORY.load_decoder(options(half), "cpu")


@pytest.mark.parametrize(
    ("codec", "how", "message"),
    [
        (
            "mimi",
            lambda s: {k: v for k, v in s.items() if k != "encoder.layers.0.conv.bias"},
            r"1 missing: encoder\.\S*layers\.0\.conv\.bias",
        ),
        (
            "mimi",
            lambda s: s | {"encoder_transformer.layers.7.mlp.fc1.weight": s["downsample.conv.weight"].clone()},
            r"1 unknown: \S*layers\.7\.mlp\.fc1\.weight",
        ),
        ("dac", lambda s: s | {"encoder.extra": s["encoder.conv1.bias"].clone()}, r"1 unknown: encoder\.extra"),
        (
            "dac",
            lambda s: s | {"encoder.conv1.bias": s["encoder.conv1.bias"][:3].clone()},
            r"1 of another shape: encoder\.conv1\.bias \[3\] instead of \[4\]",
        ),
        (
            "dac",
            lambda s: s | {"quantizer.quantizers.3.codebook.weight": s["quantizer.quantizers.3.codebook.weight"] * 0},
            r"1 untrained codebooks: quantizer\.quantizers\.3\.codebook\.weight",
        ),
        (
            "encodec",
            lambda s: s | {"quantizer.layers.3.codebook.inited": s["quantizer.layers.3.codebook.inited"] * 0},
            r"1 untrained codebooks: quantizer\.layers\.3\.codebook\.inited",
        ),
        (
            "xcodec",
            lambda s: {k: v for k, v in s.items() if k != "semantic_model.encoder.layers.1.attention.k_proj.weight"},
            r"1 missing: semantic_model\.encoder\.layers\.1\.attention\.k_proj\.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    changed: Changed,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    codec: str,
    how: Change,
    message: str,
) -> None:
    """Transformers would warn and go on with random weights, or say nothing: here it is one message and no table."""
    with pytest.raises(ModelFilesError, match=message):
        FACTORY.load(options(changed(codec, how)), "cpu")
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")


def test_what_lies_beside_the_codec_is_a_line_in_the_log(
    models: dict[str, Path],
    changed: Changed,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head that was trained on top of it changes no token."""
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.INFO, "tar2tokens")
    folder = changed("xcodec", lambda state: state | {"classifier.weight": state["fc.bias"].clone()})
    expected = FACTORY.load(options(models["xcodec"]), "cpu").encode([CLIP])[0]
    assert np.array_equal(FACTORY.load(options(folder), "cpu").encode([CLIP])[0], expected)
    assert [record.message for record in caplog.records] == [f"{folder / 'model.safetensors'}: not used: classifier"]
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_weight_norm_in_both_spellings_is_ambiguous(changed: Changed) -> None:
    """Transformers would take one of them, whichever comes last."""
    folder = changed("encodec", lambda state: state | {renamed(name): tensor + 1 for name, tensor in state.items()})
    with pytest.raises(ModelFilesError, match=r"expected one tensor for encoder\.\S+\.weight_g, found \S+ and \S+: delete"):
        FACTORY.load(options(folder), "cpu")


def test_an_untrained_model_is_refused(tmp_path: Path) -> None:
    """A model fresh from its config has codebooks of zeros, and would make each token 0."""
    from transformers import EncodecConfig, EncodecModel

    EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, num_lstm_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(ModelFilesError, match="32 untrained codebooks"):
        FACTORY.load(options(tmp_path), "cpu")


def test_a_config_that_transformers_refuses_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    """A value that only transformers checks is a ModelFilesError that names the config."""
    folder = shutil.copytree(models["mimi"], tmp_path / "mimi")
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": "wide"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFilesError, match=r"config\.json: transformers cannot load this .*hidden_size"):
        FACTORY.load(options(folder), "cpu")


def test_more_codebooks_than_the_config_says(changed: Changed) -> None:
    """A file of another size of the same codec fits neither way."""
    more = changed("mimi", lambda s: s)
    config = json.loads((more / "config.json").read_text()) | {"num_quantizers": 16}
    (more / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFilesError, match=r"48 unknown: quantizer\.acoustic_residual_vector_quantizer\.layers\.15"):
        FACTORY.load(options(more), "cpu")
