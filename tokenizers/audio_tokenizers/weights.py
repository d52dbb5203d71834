"""Tensors from weights files into modules, strictly: a missing, surplus or misshapen one is an error that names it."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from audio_tokenizers.errors import ModelFilesError

if TYPE_CHECKING:
    import torch

__all__ = ["load_strictly", "read_tensors"]


def read_tensors(path: Path, *, unused: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """The CPU tensors of a safetensors or torch.save file by name, without those whose names begin with one of `unused`.

    What is unused is never paged in. Raises ModelFilesError if the file cannot be read as a state dict of tensors.
    """
    import safetensors
    import torch

    skip = tuple(unused)
    unreadable = (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError, safetensors.SafetensorError)
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in list(file.keys()) if not name.startswith(skip)}
        with path.open("rb") as file:
            mappable = file.read(2) == b"PK"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except unreadable as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelFilesError(f"{path}: cannot be read as weights, download it again ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelFilesError(f"{path}: expected a state dict of tensors, found {type(state).__name__}")
    return {name: value for name, value in state.items() if not name.startswith(skip)}


def load_strictly(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy `state` into `module`. `path` is named in the ModelFilesError if names or shapes differ."""
    expected = module.state_dict()
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in sorted(set(expected) & set(state))
        if state[name].shape != expected[name].shape
    ]
    faults = [
        f"{len(names)} {words}, first {', '.join(names[:3])}"
        for words, names in (("missing", missing), ("that do not belong there", surplus), ("of another shape", misshapen))
        if names
    ]
    if faults:
        raise ModelFilesError(f"{path}: expected the weights of {type(module).__name__}, found tensors {'; '.join(faults)}")
    module.load_state_dict(dict(state), strict=True)
