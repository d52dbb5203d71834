"""Options that many backends have, checked."""

from __future__ import annotations

from audio_tokenizers.base import Options
from audio_tokenizers.errors import UsageError

__all__ = ["LANES_ON_GPU", "LANES_OPTION", "lanes_of", "model_path_of", "switch"]

LANES_ON_GPU = 16
MOST_LANES = 1024
LANES_OPTION = (None, f"clips in one call of a fixed shape, 0: one clip at a time; null: {LANES_ON_GPU} on a GPU, else 0")


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


def lanes_of(options: Options, device: str) -> int:
    """The option `lanes`, 0 for single clips. Raises UsageError unless it is null or a number from 0 to MOST_LANES.

    Options without it, those of a run that was frozen before there were lanes, mean single clips on any device.
    """
    value = options.get("lanes", 0)
    if value is None:
        return LANES_ON_GPU if device.startswith("cuda") else 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_LANES:
        raise UsageError(f"lanes: expected a number from 0 to {MOST_LANES}, or null, found {value!r}")
    return value
