"""What the frame headers of an audio stream say of it, in formats whose frames follow each other without a container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["FrameScan", "Gap", "Positions"]

Positions = np.ndarray[Any, np.dtype[np.int64]]
"""Bytes of a file [frames]."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes between frames, or after the last one, that are no frame."""

    begin: int
    end: int
    seconds: float
    """That frames like the one before would take for as many bytes."""


@dataclass(slots=True)
class FrameScan:
    """What the headers of a file say. Positions are bytes of the file."""

    begin: int
    end: int
    """Of the last whole frame."""
    frames: int = 0
    """Whole ones."""
    seconds: float = 0.0
    """Of these."""
    changes: int = 0
    """How often something changes that the frames of one stream have in common."""
    rate: int = 0
    samples_per_frame: int = 0
    """Of the first."""
    gaps: list[Gap] = field(default_factory=list)
    positions: Positions = field(default_factory=lambda: np.empty(0, np.int64))
    """Of the whole frames."""
