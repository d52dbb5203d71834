"""shared/transformers_models.py: models are made without storage, and a config that transformers refuses is one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.nn.utils import parametrizations, parametrize

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.transformers_models import config_errors, merge_parametrizations, without_storage

PATH = Path("/models/config.json")


def test_no_memory_and_no_random_numbers() -> None:
    """A network of 4 TB is made at once, and the generator of random numbers stays where it was."""
    before = torch.get_rng_state()
    model = without_storage(PATH, lambda: torch.nn.Linear(1 << 20, 1 << 20))
    assert model.weight.is_meta
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [KeyError("hidden"), TypeError("no\nint"), ValueError("x"), RuntimeError("negative")])
def test_a_config_that_is_refused(error: Exception) -> None:
    """In one line that names the file, whichever way transformers stumbles over it."""

    def make() -> None:
        raise error

    with pytest.raises(ModelFilesError, match=r"^/models/config\.json: transformers refuses this config \(.+\)$"):
        without_storage(PATH, make)


def test_a_config_of_another_type() -> None:
    """Transformers checks the types of its configs with an exception of huggingface_hub's."""
    from transformers import WhisperConfig

    with pytest.raises(ModelFilesError, match=r"config\.json: transformers refuses.*d_model"), config_errors(PATH):
        WhisperConfig.from_dict({"d_model": "wide"})


def test_what_else_a_loader_raises() -> None:
    """It is named by the loader; all else, and our own messages, pass."""
    cannot = config_errors(PATH, SafetensorError, what="cannot load this")
    with pytest.raises(ModelFilesError, match=r"transformers cannot load this \(cut\)"), cannot:
        raise SafetensorError("cut")
    with pytest.raises(OSError, match="disk"), config_errors(PATH):
        raise OSError("disk")
    with pytest.raises(ModelFilesError, match=r"^ours$"), config_errors(PATH):
        raise ModelFilesError("ours")


def test_weight_norms_are_computed_once() -> None:
    """To the same values as in each forward pass, wherever in the network they are; what has none is as it was."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(parametrizations.weight_norm(torch.nn.Linear(3, 2)), torch.nn.Linear(2, 1))
    wave = torch.randn(4, 3)
    before, weight = model(wave), model[0].weight
    merge_parametrizations(model)
    assert not parametrize.is_parametrized(model[0])
    assert sorted(model.state_dict()) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert torch.equal(model[0].weight, weight)
    assert torch.equal(model(wave), before)
