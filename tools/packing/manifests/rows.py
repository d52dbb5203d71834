"""What a manifest says of one clip, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tools.packing.pairs import LeftOut

__all__ = ["Row", "Rows", "name_below"]


@dataclass(frozen=True, slots=True)
class Row:
    """A manifest's entry for one clip."""

    id: str
    audio: str
    """The path as written."""
    audio_name: str
    """That path relative to the manifest's folder, as far as possible."""
    text: str | None
    where: str
    """The line, for messages."""
    language: str | None = None
    metadata: dict[str, Any] | None = None
    is_part: bool = False
    """A part of the file, from `offset` on."""


Rows = Callable[[], Iterator[Row | LeftOut]]
"""Reads a manifest: its rows, and its bad lines."""


def name_below(home: str, audio: str) -> str:
    """A path as a name: relative to the manifest's folder if it is below, else without root and `..`."""
    below = audio.removeprefix(f"{home}/")
    if not (below.startswith(("/", ".")) or "/." in below or "//" in below):
        return below  # the common case, on a hot path
    path = os.path.normpath(f"{home}/{audio}" if not audio.startswith("/") else audio)
    parts = (path.removeprefix(f"{home}/") if path.startswith(f"{home}/") else os.path.normpath(audio)).split("/")
    return "/".join(part for part in parts if part not in ("", ".."))
