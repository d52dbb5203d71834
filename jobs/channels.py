"""Which channel of a clip is heard, and what mixing may do to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.wording import counted

__all__ = ["OPPOSITE_PHASE", "SPLIT", "Block", "Mixer", "channel_rule", "describe_note", "mixed"]

Block = np.ndarray[Any, np.dtype[np.float32]]
"""float32 [samples, channels]."""

SPLIT = "split"
"""The rule by which each channel is a clip of its own."""
SYNONYMS = {"left": "first", "0": "first", "right": "1"}
"""So that one recipe has one name."""
MOST_CHANNELS = 1024
"""As many as a header may state to libsndfile."""
OPPOSITE_PHASE = "opposite_phase"
"""The note of a clip whose channels cancel each other in the mean."""
NOTE_WORDS = {OPPOSITE_PHASE: "whose channels cancel each other when mixed (--channel first hears one)"}
CANCELLED = 0.02
"""Energy of the sum of the channels, as a share of the sum of their energies: 2 for two that are equal, 1 for any number of
unrelated ones. Below this, two channels of one loudness correlate to less than -0.98, and their mean is 20 dB below them."""


def channel_rule(choice: str) -> str:
    """What --channel says -> `mean`, `first`, `split`, or the number of a channel from 1 on. Raises UsageError."""
    rule = SYNONYMS.get(choice, choice)
    if rule in ("mean", "first", SPLIT):
        return rule
    if rule.isascii() and rule.isdigit() and len(rule) <= len(str(MOST_CHANNELS)) and 0 < int(rule) < MOST_CHANNELS:
        return str(int(rule))
    raise UsageError(
        f"--channel {choice}: expected mean, first, left, right, split (each channel a clip of its own), or the number of a "
        "channel, from 0"
    )


class Mixer:
    """Blocks of one clip's channels -> mono, by one rule."""

    def __init__(self, rule: str) -> None:
        """`rule` is one of `channel_rule`'s, but for SPLIT."""
        self._channel = None if rule == "mean" else 0 if rule == "first" else int(rule)
        self._mixed_energy = self._channel_energy = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the record has to say of the mixing, once all blocks have passed."""
        cancelled = self._channel_energy > 0 and self._mixed_energy < CANCELLED * self._channel_energy
        return (OPPOSITE_PHASE,) if cancelled else ()

    def mix(self, block: Block) -> Waveform:
        """float32 [samples, channels] -> [samples]; the mean is a sum in channel order, as librosa's to_mono computes it.

        Raises ClipError: `decode` (no such channel), `not_finite`.
        """
        channels = block.shape[1]
        picked = self._channel or 0
        if picked >= channels:
            raise ClipError("decode", f"no channel {picked} (the first is 0): it has {counted(channels, 'channel')}")
        wave: Waveform = np.ascontiguousarray(block[:, picked])
        averages = self._channel is None and channels > 1
        if averages:
            wave = wave.copy()
            for channel in range(1, channels):
                wave += block[:, channel]
            wave /= channels
        # A finite sum of squares proves all samples finite; an infinite one may only be large.
        with np.errstate(over="ignore", invalid="ignore"):
            energy = np.dot(wave, wave)
            if not np.isfinite(energy) and not np.isfinite(wave).all():
                raise ClipError("not_finite", "samples are NaN or infinite")
            if averages:
                self._measure(float(energy), block)
        return wave

    def _measure(self, mean_energy: float, block: Block) -> None:
        every = block.ravel(order="K")  # decoders give either order, and neither is copied
        self._mixed_energy += mean_energy * block.shape[1] ** 2
        self._channel_energy += float(np.dot(every, every))


def describe_note(note: str) -> str:
    """What follows `3 clips`."""
    return NOTE_WORDS.get(note, f"that note {note}")


def mixed(blocks: Iterator[tuple[Block, int]], mixer: Mixer) -> Iterator[tuple[Waveform, int]]:
    """Mono blocks with their rate in Hz. Raises what `Mixer.mix` does."""
    for block, rate in blocks:
        yield mixer.mix(block), rate
