"""Choose or mix the channels of a clip, and note when mixing cancels them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ClipError, UsageError
from audio_tokenizers.shared.wording import counted

__all__ = ["ADOPTED", "OPPOSITE_PHASE", "SPLIT", "Block", "Mixer", "channel_rule", "describe_note", "mixed"]

Block = np.ndarray[Any, np.dtype[np.float32]]
"""float32 [samples, channels]."""

SPLIT = "split"
"""The rule that makes each channel a clip of its own."""
SYNONYMS = {"left": "first", "0": "first", "right": "1"}
"""One rule has one name in the recipe."""
MOST_CHANNELS = 1024
"""libsndfile's limit."""
OPPOSITE_PHASE = "opposite_phase"
"""The note for a clip whose channels cancel each other in the mean."""
ADOPTED = "adopted"
"""The note for a clip whose tokens were made by another tool (tools/adopt.py): not by the run's recipe."""
NOTE_WORDS = {
    OPPOSITE_PHASE: "whose channels cancel each other when mixed (--channel first hears one)",
    ADOPTED: "with tokens made by another tool (tools.adopt), not by this recipe",
}
CANCELLED = 0.02
"""Energy of the sum of the channels, relative to the sum of their energies: 2 for two equal channels, 1 for any number of
unrelated ones. Below this value, two equally loud channels correlate to less than -0.98, and their mean is 20 dB below them.
"""


def channel_rule(choice: str) -> str:
    """Value of --channel -> `mean`, `first`, `split`, or a channel number from 1 on. Raises UsageError."""
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
    """Mixes the blocks of one clip to mono, by one rule."""

    def __init__(self, rule: str) -> None:
        """`rule` is a result of `channel_rule` other than SPLIT."""
        self._channel = None if rule == "mean" else 0 if rule == "first" else int(rule)
        self._mixed_energy = self._channel_energy = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the mixing for the record; complete after the last block."""
        cancelled = self._channel_energy > 0 and self._mixed_energy < CANCELLED * self._channel_energy
        return (OPPOSITE_PHASE,) if cancelled else ()

    def mix(self, block: Block) -> Waveform:
        """float32 [samples, channels] -> [samples]; the mean sums in channel order, like librosa's to_mono.

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
        every = block.ravel(order="K")  # K: decoders give either memory order, and neither is copied
        self._mixed_energy += mean_energy * block.shape[1] ** 2
        self._channel_energy += float(np.dot(every, every))


def describe_note(note: str) -> str:
    """Describe a note, as the continuation of `3 clips`."""
    return NOTE_WORDS.get(note, f"that note {note}")


def mixed(blocks: Iterator[tuple[Block, int]], mixer: Mixer) -> Iterator[tuple[Waveform, int]]:
    """Mono blocks with their rate in Hz. Raises what `Mixer.mix` does."""
    for block, rate in blocks:
        yield mixer.mix(block), rate
