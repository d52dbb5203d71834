"""audio_tokenizers/weights.py: weights that do not fit are an error that names them, never random tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.weights import load_strictly, read_tensors

STATE = {"weight": torch.arange(6.0).reshape(3, 2), "bias": torch.ones(3)}


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_tensors_come_back_without_the_unused(name: str, tmp_path: Path) -> None:
    """Both kinds of file; names that begin with an unused prefix are left out."""
    path = save(tmp_path / name, {**STATE, "decoder.weight": torch.zeros(1)})
    found = read_tensors(path, unused=["decoder."])
    assert sorted(found) == ["bias", "weight"]
    assert torch.equal(found["weight"], STATE["weight"])
    assert sorted(read_tensors(path)) == ["bias", "decoder.weight", "weight"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_file_that_is_no_weights_is_named(name: str, tmp_path: Path) -> None:
    """Whatever a reader of such files raises becomes one message."""
    (tmp_path / name).write_bytes(b"PK not really")
    with pytest.raises(ModelFilesError, match=f"{name}: cannot be read as weights"):
        read_tensors(tmp_path / name)


def test_a_pickle_of_something_else_is_named(tmp_path: Path) -> None:
    """A whole training checkpoint is not a state dict."""
    torch.save({"model": STATE}, tmp_path / "model.pt")
    with pytest.raises(ModelFilesError, match="expected a state dict of tensors"):
        read_tensors(tmp_path / "model.pt")


def test_a_pickle_that_runs_code_does_not(tmp_path: Path) -> None:
    """Weights from strangers are data."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Evil(), tmp_path / "model.pt")
    with pytest.raises(ModelFilesError):
        read_tensors(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_fitting_weights_are_loaded() -> None:
    """Every value arrives."""
    module = torch.nn.Linear(2, 3)
    load_strictly(module, STATE, Path("model.pt"))
    assert torch.equal(module.weight, STATE["weight"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": None}, "1 missing, first bias"),
        ({"more": torch.ones(1)}, "1 that do not belong there, first more"),
        ({"weight": torch.ones(2, 3)}, r"1 of another shape, first weight \[2, 3\] instead of \[3, 2\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(changes: dict[str, torch.Tensor | None], words: str) -> None:
    """Missing, surplus and misshapen tensors, with the file and the module."""
    state = {name: value for name, value in {**STATE, **changes}.items() if value is not None}
    with pytest.raises(ModelFilesError, match=f"^model.pt: expected the weights of Linear, found tensors {words}"):
        load_strictly(torch.nn.Linear(2, 3), state, Path("model.pt"))
