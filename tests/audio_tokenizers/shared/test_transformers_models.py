"""shared/transformers_models.py: models are made without storage, and a config that transformers refuses is one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


IMPORTED_MEANWHILE = """
import sys, torch
from pathlib import Path
from audio_tokenizers.shared.transformers_models import without_storage

def make():
    import transformers, torchaudio.compliance.kaldi
    return transformers.AutoModel.from_config(transformers.MimiConfig(num_hidden_layers=1))

without_storage(Path("config.json"), make)
values = [(name, key) for name, module in list(sys.modules.items()) if name.startswith(("torchaudio", "transformers.models"))
          for key, value in list(vars(module).items()) if isinstance(value, torch.Tensor) and value.is_meta]
assert "torchaudio.compliance.kaldi" in sys.modules and not values, values
"""


def test_what_is_imported_meanwhile_keeps_its_constants() -> None:
    """A process may load several backends: torchaudio's constants have values, whichever of them imports it first."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    words = [sys.executable, "-c", IMPORTED_MEANWHILE]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr


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
    model: Any = torch.nn.Sequential(parametrizations.weight_norm(torch.nn.Linear(3, 2)), torch.nn.Linear(2, 1))
    wave = torch.randn(4, 3)
    before, weight = model(wave), model[0].weight
    merge_parametrizations(model)
    assert not parametrize.is_parametrized(model[0])
    assert sorted(model.state_dict()) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert torch.equal(model[0].weight, weight)
    assert torch.equal(model(wave), before)
