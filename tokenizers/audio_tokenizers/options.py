"""Options that many backends have, checked."""

from __future__ import annotations

from audio_tokenizers.base import Options
from audio_tokenizers.errors import UsageError

__all__ = ["model_path_of", "switch"]


def model_path_of(options: Options) -> str:
    """The option `model_path`. Raises UsageError unless it is a text."""
    value = options["model_path"]
    if not isinstance(value, str) or not value:
        raise UsageError(f"model_path: expected a directory or hub id, found {value!r}")
    return value


def switch(options: Options, name: str) -> bool:
    """The option `name`. Raises UsageError unless it is true or false."""
    value = options[name]
    if not isinstance(value, bool):
        raise UsageError(f"{name}: expected true or false, found {value!r}")
    return value
