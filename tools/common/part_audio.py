"""The audio of a clip that is a part of its member: a segment, a channel, or both, as WAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import soundfile

from jobs.channels import Block
from jobs.recording import Part

__all__ = ["part_blocks", "write_wav"]

SUBTYPE = "PCM_24"
"""Lossless for originals of up to 24 bits, and every player reads it."""


def part_blocks(part: Part) -> Iterator[tuple[Block, int]]:
    """float32 [samples, channels] with their rate in Hz: the part's channel, or all of them. Raises ClipError."""
    channel = part.cut.channel
    for block, rate in part.blocks():
        yield (block if channel is None else block[:, channel : channel + 1]), rate


def write_wav(blocks: Iterator[tuple[Block, int]], target: Path | IO[bytes]) -> None:
    """Write blocks, at least one, as they come. Raises what `blocks` raises."""
    first, rate = next(blocks)
    with soundfile.SoundFile(target, "w", rate, first.shape[1], SUBTYPE, format="WAV") as wav:
        wav.write(first)
        for block, _ in blocks:
            wav.write(block)
