"""The settings of a training: defaults.yaml, and what --config changes of it. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml

__all__ = ["DEFAULTS", "Settings", "read_settings"]

DEFAULTS = Path(__file__).with_name("defaults.yaml")
Part = Literal["stack", "tables", "head"]
FREEZE: Mapping[str, tuple[Part, ...]] = {"llm": ("stack", "tables", "head"), "head": ("tables", "head"), "none": ()}
MAY_CHANGE = {"model_path", "epochs", "micro_batch_size", "checkpoint_steps"}
"""Settings that may change when a training resumes: none of them changes the steps that follow."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As in defaults.yaml, where each is explained."""

    model_path: str | None
    fusion: Literal["seed", "gated"]
    freeze: Literal["llm", "head", "none"] | tuple[Part, ...]
    subset_ratio: Share
    test_ratio: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    epochs: Positive
    batch_size: Positive
    micro_batch_size: Positive | None
    learning_rate: Annotated[float, msgspec.Meta(gt=0)]
    weight_decay: Annotated[float, msgspec.Meta(ge=0)]
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)]
    clip_norm: Annotated[float, msgspec.Meta(gt=0)]
    precision: Literal["float32", "tf32", "bf16"]
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    bucket_batches: Positive
    checkpoint_steps: Positive

    @property
    def frozen_parts(self) -> tuple[Part, ...]:
        """Parts of the language model that are not trained."""
        return FREEZE[self.freeze] if isinstance(self.freeze, str) else self.freeze

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """`learning_rate: 0.001, and 0.0001 before`: settings that must not change when a training resumes, and have."""
        return [
            f"{name}: {value}, and {other.get(name)} before"
            for name, value in self.plain().items()
            if name not in MAY_CHANGE and value != other.get(name)
        ]

    def plain(self) -> dict[str, Any]:
        """As a file of JSON or YAML has them."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found


def read_settings(path: Path | None, changes: Mapping[str, object] | None = None) -> Settings:
    """The defaults, changed by the file at `path`, and then by `changes` that are not None.

    Raises UsageError on what is no setting, and says which is nearest.
    """
    values: dict[str, Any] = _mapping(DEFAULTS)
    if path is not None:
        given = _mapping(path)
        for name in given:
            if name not in values:
                near = difflib.get_close_matches(str(name), values, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(values)}"
                raise UsageError(f"{path}: {name!r} is no setting of a training: {advice}")
        values.update(given)
    values.update({name: value for name, value in (changes or {}).items() if value is not None})
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path or DEFAULTS}: {error}") from None


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = load_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: expected a YAML file with settings, found none there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError(f"{path}: expected YAML, found something else ({reason})") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected settings as `name: value` lines, found {type(found).__name__}")
    return found
