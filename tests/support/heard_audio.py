"""What is decoded of bytes, and what is missing: for tests of damaged audio."""

from __future__ import annotations

import io
from contextlib import closing

import numpy as np

from jobs.audio import decode, decode_channels
from jobs.losses import Losses
from jobs.mp3_frames import scan_mp3
from support.tars import Samples

__all__ = ["before_shift", "heard", "place", "seconds"]


def heard(data: bytes) -> tuple[Samples, int, Losses]:
    losses = Losses()
    blocks = list(decode(io.BytesIO(data), mono="mean", losses=losses))
    assert len({rate for _, rate in blocks}) == 1
    return np.concatenate([wave for wave, _ in blocks]), blocks[0][1], losses


def seconds(data: bytes) -> tuple[float, float]:
    """That are heard, and that are missing."""
    wave, rate, losses = heard(data)
    assert bool(losses.what) == (losses.seconds > 0)
    return len(wave) / rate, losses.seconds


def place(data: bytes, number: int) -> int:
    """Where a frame of an MP3 begins."""
    return int(scan_mp3(io.BytesIO(data), 0, len(data)).positions[number])


def before_shift(data: bytes) -> tuple[Samples, int, bool]:
    """The samples before what is told to be shifted, with their rate, and whether something is."""
    losses, blocks, rate = Losses(), [np.empty(0, np.float32)], 1
    with closing(decode_channels(io.BytesIO(data), losses=losses)) as decoded:  # type: ignore[type-var]
        for block, rate in decoded:
            if losses.shifted:
                return np.concatenate(blocks), rate, True
            blocks.append(block[:, 0].copy())
    return np.concatenate(blocks), rate, False
