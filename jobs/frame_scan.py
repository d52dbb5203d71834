"""Result of scanning the frame headers of an audio stream, in formats whose frames follow each other without a container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["FrameScan", "Gap", "Positions"]

Positions = np.ndarray[Any, np.dtype[np.int64]]
"""Byte positions in a file [frames]."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes between frames, before the first or after the last, that are not a frame."""

    begin: int
    end: int
    seconds: float
    """Estimated duration: that of as many bytes of frames."""


@dataclass(slots=True)
class FrameScan:
    """What the frame headers of a file show. Positions are byte positions in the file."""

    begin: int
    end: int
    """End of the last whole frame."""
    frames: int = 0
    """Number of whole frames."""
    seconds: float = 0.0
    """Duration of these."""
    changes: int = 0
    """How often a property changes that the frames of one stream have in common."""
    rate: int = 0
    samples_per_frame: int = 0
    """Of the first frame, as is `rate` (Hz)."""
    gaps: list[Gap] = field(default_factory=list)
    positions: Positions = field(default_factory=lambda: np.empty(0, np.int64))
    """Begins of the whole frames."""
