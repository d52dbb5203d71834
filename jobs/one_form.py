"""Audio whose rate or channels change midway -> one rate and one number of channels: those of its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr

__all__ = ["at_one_rate", "with_as_many_channels"]

Samples = np.ndarray[Any, np.dtype[np.float32]]
"""float32 [samples] or [samples, channels]."""


def at_one_rate(blocks: Iterator[tuple[Samples, int]]) -> Iterator[tuple[Samples, int]]:
    """Resample blocks at several rates to the rate of the first, with soxr's HQ filter, each part on its own.

    Blocks at the first rate pass unchanged. All blocks have the same number of channels.
    """
    wanted = current = 0
    stream: soxr.ResampleStream | None = None
    channels = 1
    for block, rate in blocks:
        wanted = wanted or rate
        if rate != current:
            if stream is not None:
                yield _end(stream, channels, block.ndim), wanted
            channels = block.shape[1] if block.ndim == 2 else 1
            stream = None if rate == wanted else soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")
            current = rate
        yield (block if stream is None else stream.resample_chunk(np.ascontiguousarray(block))), wanted
    if stream is not None:
        yield _end(stream, channels, block.ndim), wanted


def _end(stream: soxr.ResampleStream, channels: int, dimensions: int) -> Samples:
    rest: Samples = stream.resample_chunk(np.empty((0, channels) if dimensions == 2 else 0, np.float32), last=True)
    return rest


def with_as_many_channels(blocks: Iterator[tuple[Samples, int]]) -> Iterator[tuple[Samples, int]]:
    """Give all blocks [samples, any] as many channels as the first: of a block with another number, each is the mean."""
    channels = 0
    for block, rate in blocks:
        channels = channels or block.shape[1]
        if block.shape[1] != channels:
            mean = block.mean(axis=1, dtype=np.float32, keepdims=True)
            block = np.repeat(mean, channels, axis=1)  # noqa: PLW2901
        yield block, rate
