"""Blocks of samples as decoders give them: limited, counted, read to their promised end, marked from where places shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from audio_tokenizers.errors import ClipError
from jobs.channels import Block
from jobs.losses import Losses
from jobs.soundfile_decoder import Sound
from jobs.spans import SpanFile

__all__ = ["NO_LENGTH", "Blocks", "Counted", "Limits", "part_of", "shifted_from", "to_its_end"]

NO_LENGTH = "its length is not stated."
"""Why libsndfile does not decode a file, for the message if FFmpeg cannot either."""
Blocks = Iterator[tuple[Block, int]]
"""float32 [samples, channels], and their rate in Hz."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of libsndfile's blocks."""

    frames: int
    samples: int
    """Of all channels together."""


class Counted:
    """Passes blocks through and counts their seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def each(self, blocks: Blocks) -> Blocks:
        """The same blocks."""
        for block, rate in blocks:
            self.seconds += len(block) / max(rate, 1)
            yield block, rate


def part_of(file: IO[bytes], begin: int, end: int) -> IO[bytes]:
    """Bytes `begin` to `end` of a file, as a file."""
    return SpanFile(file, [(begin, end)])  # type: ignore[return-value]


def to_its_end(sound: Sound, losses: Losses, limits: Limits) -> Blocks:
    """Yield what libsndfile decodes, and add to `losses` what it promised beyond that.

    Raises ClipError if libsndfile gives nothing: falling back to FFmpeg would let a transient error choose the decoder.
    """
    if not sound.error:
        yield from sound.blocks(limits.frames, limits.samples)
    if sound.error and not sound.read:
        raise ClipError("decode", f"damaged after sample 0: {sound.error}")
    missing = (sound.promised or 0) - sound.read
    if missing:
        words = f"what follows sample {sound.read}"
        losses.add(missing / sound.rate, f"{words}: {sound.error}" if sound.error else words)


def shifted_from(seconds: float | None, blocks: Blocks, losses: Losses) -> Blocks:
    """Pass the blocks through; after `seconds` (None: never) set `losses.shifted`: the place of what follows is unknown."""
    heard = 0.0
    for block, rate in blocks:
        sure = len(block) if seconds is None else int((seconds - heard) * rate)
        if losses.shifted or sure >= len(block):
            yield block, rate
        else:
            if sure > 0:
                yield block[:sure], rate
            losses.shifted = True
            yield block[max(sure, 0) :], rate
        heard += len(block) / max(rate, 1)
