"""Describes and loads a combination. Its options are those of its parts, `PART.OPTION`, and one folder for all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from audio_tokenizers.base import BackendFactory, BackendInfo, Options, Scalar, takes_clips
from audio_tokenizers.combined.backend import Combined
from audio_tokenizers.combined.parts import combined_info
from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.model_files import HUB_ID
from audio_tokenizers.shared.wording import shown

__all__ = ["CombinedFactory"]

MODEL_PATH = "model_path"


class CombinedFactory:
    """The factory of `a+b`."""

    def __init__(self, parts: Sequence[BackendFactory]) -> None:
        """Raises UsageError if a part occurs twice."""
        names = [part.name for part in parts]
        self.name = "+".join(names)
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"{self.name}: {name} occurs twice, expected each part once: make two runs and join them")
        self.parts = tuple(parts)
        self.uses_gpu = any(map(_uses_gpu, parts))
        folder: dict[str, tuple[Scalar, str]] = {
            MODEL_PATH: (None, "folder with a folder for each part's model, PART or that of its hub id's repository")
        }
        self.options: Mapping[str, tuple[Scalar, str]] = {
            **(folder if any(MODEL_PATH in part.options for part in parts) else {}),
            **{f"{part.name}.{key}": option for part in parts for key, option in part.options.items()},
        }

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Describe all parts. Raises UsageError if they cannot be combined, and what the parts raise."""
        return combined_info(self.name, [part.describe(self._options_of(part, options), device) for part in self.parts])

    def load(self, options: Options, device: str) -> Combined:
        """The weights of all parts on `device`. Raises what the parts raise."""
        info = self.describe(options, device)
        loaded = {}
        for part in sorted(self.parts, key=_uses_gpu, reverse=True):  # a missing GPU is reported before files are read
            backend = part.load(self._options_of(part, options), device)
            assert takes_clips(backend), "describe refuses others"
            loaded[part.name] = backend
        return Combined(info, [loaded[part.name] for part in self.parts])

    def _options_of(self, part: BackendFactory, options: Options) -> dict[str, Scalar]:
        """The options of one part under its own names. Options that a run frozen by an older version lacks stay absent."""
        own = {key: options[name] for key in part.options if (name := f"{part.name}.{key}") in options}
        if own.get(MODEL_PATH) is not None:
            own[MODEL_PATH] = _located(part.name, own[MODEL_PATH], options.get(MODEL_PATH))
        return own


def _uses_gpu(part: BackendFactory) -> bool:
    return bool(getattr(part, "uses_gpu", True))


def _located(part: str, own: Scalar, folder: Scalar) -> Scalar:
    """Where the model of `part` is: in `folder`, unless `own` is a path. Raises UsageError, ModelFilesError."""
    if folder is None:
        return own
    if not isinstance(folder, str) or not folder:
        raise UsageError(f"model_path: expected a folder with a folder for each part's model, found {shown(folder, 'null')}")
    if not isinstance(own, str) or not HUB_ID.fullmatch(own) or Path(own).exists():
        return own
    names = (part, own.rpartition("/")[2])
    for name in names:
        if (place := Path(folder).expanduser() / name).is_dir():
            return str(place)
    there = sorted(entry.name for entry in Path(folder).iterdir())[:8] if Path(folder).is_dir() else []
    raise ModelFilesError(
        f"{folder}: expected the model of {part} in its folder {' or '.join(names)}, found {', '.join(there) or 'nothing'}; "
        f"--set {part}.model_path=DIR names another place"
    )
