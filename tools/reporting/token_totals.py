"""Adds up the histograms of tokens in a run's manifests, and says what they tell of each codebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jobs.plain_text import plain
from jobs.token_statistics import TokenStatistics, entropy_bits, read_statistics

__all__ = ["Codebook", "FieldTokens", "TokenTotals", "add_up", "describe_codebooks", "read_totals"]

MOST_TARS = 400
"""Manifests whose histograms are read: a few hundred tars show what all have, and unpacking takes milliseconds each."""


@dataclass(slots=True)
class FieldTokens:
    """Histograms of one key of the records, summed over tars."""

    name: str
    counts: npt.NDArray[np.int64]
    """How often each code occurs: [codebooks, codebook size]."""
    repeated: npt.NDArray[np.int64]
    """Tokens equal to the one before them in their clip: [codebooks]."""
    items: int = 0
    """Frames: tokens of each codebook."""
    still: int | None = 0
    """Frames in stretches of half a second or more without any change, such as silence; None for a key without a rate."""
    still_clips: int = 0
    """Clips of half a second or more that are one such stretch."""
    approximate: bool = False
    """Rare codes are missing in some histograms."""

    @property
    def tokens(self) -> int:
        """Tokens of all codebooks."""
        return self.items * len(self.counts)

    @property
    def still_share(self) -> float | None:
        """Share of frames in such stretches."""
        return self.still / self.items if self.still is not None and self.items else None


@dataclass(slots=True)
class TokenTotals:
    """The tokens of some of a run's committed tars."""

    committed: int
    """Committed tars of the run."""
    asked: int = 0
    """Those whose manifests were read."""
    tars: int = 0
    """Those of them that have histograms."""
    clips: int = 0
    audio_seconds: float = 0.0
    text_characters: int = 0
    text_seconds: float = 0.0
    """Audio of the clips that have a transcript."""
    keys: dict[str, FieldTokens] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def per_second(self, key: FieldTokens) -> float | None:
        """Tokens per second of audio."""
        return key.tokens / self.audio_seconds if self.audio_seconds > 0 else None

    def per_character(self, key: FieldTokens) -> float | None:
        """Tokens per character of text, at the usual rate of tokens; None without texts."""
        rate = self.per_second(key)
        return rate * self.text_seconds / self.text_characters if rate is not None and self.text_characters else None


def read_totals(manifests: Sequence[str]) -> TokenTotals:
    """The sums over the manifests of a run's committed tars, or over MOST_TARS of them, taken evenly."""
    step = max(1.0, len(manifests) / MOST_TARS)
    chosen = [manifests[int(k * step)] for k in range(min(len(manifests), MOST_TARS))]
    totals = TokenTotals(len(manifests), asked=len(chosen))
    for path in chosen:
        try:
            found = read_statistics(path)
            if found is not None:
                add_up(totals, found)
        except (OSError, ValueError) as error:
            totals.problems.append(plain(error))
    return totals


def add_up(totals: TokenTotals, found: TokenStatistics) -> None:
    """Add one tar. Raises ValueError if its histograms contradict themselves, or those before them."""
    unpacked = {name: sequence.histograms() for name, sequence in found.sequences.items()}
    for name, counts in unpacked.items():
        if name in totals.keys and totals.keys[name].counts.shape != counts.shape:
            raise ValueError(f"{name}: histograms of {counts.shape}, expected {totals.keys[name].counts.shape}")
    totals.tars += 1
    totals.clips += found.clips
    totals.audio_seconds += found.audio_seconds
    totals.text_characters += found.text_characters
    totals.text_seconds += found.text_seconds
    for name, counts in unpacked.items():
        sequence = found.sequences[name]
        if name not in totals.keys:
            totals.keys[name] = FieldTokens(plain(name), np.zeros_like(counts), np.zeros(len(counts), np.int64))
        key = totals.keys[name]
        key.counts += counts
        key.repeated += np.array([codebook.repeated for codebook in sequence.codebooks])
        key.items += sequence.items
        key.still = None if sequence.items_per_second is None or key.still is None else key.still + sequence.still
        key.still_clips += sequence.still_clips
        key.approximate |= sequence.counts.left_out_below > 1


@dataclass(frozen=True, slots=True)
class Codebook:
    """One codebook of a run."""

    number: int
    """Counted from 0."""
    size: int
    used: int
    """Codes that occur."""
    tokens: int
    entropy_bits: float
    """Shannon entropy of the codes' distribution, in bits; log2(size) is the most there can be."""
    top_share: float
    """Share of the commonest code."""
    repeat_share: float
    """Share of tokens equal to the one before them."""

    @property
    def dead(self) -> int:
        """Codes that never occur."""
        return self.size - self.used

    @property
    def entropy_share(self) -> float:
        """Entropy as a share of the most there can be; 1 for a codebook of one code."""
        return self.entropy_bits / np.log2(self.size) if self.size > 1 else 1.0


def describe_codebooks(key: FieldTokens) -> list[Codebook]:
    """The codebooks of one key, in order."""
    found = []
    for number, counts in enumerate(key.counts):
        tokens = int(counts.sum())
        seen = counts[counts > 0] / max(tokens, 1)
        found.append(
            Codebook(
                number=number,
                size=len(counts),
                used=len(seen),
                tokens=tokens,
                entropy_bits=entropy_bits(counts),
                top_share=float(seen.max()) if len(seen) else 0.0,
                repeat_share=int(key.repeated[number]) / max(tokens, 1),
            )
        )
    return found
