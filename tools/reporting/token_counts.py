"""Pure: what a run's token histograms say about each codebook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Codebook", "FieldTokens", "describe_codebooks"]


@dataclass(frozen=True, slots=True)
class FieldTokens:
    """Histograms of one key of the records, summed over the committed tars that have them."""

    name: str
    counts: npt.NDArray[np.int64]
    """How often each code occurs: [codebooks, codebook size]."""
    repeated: npt.NDArray[np.int64]
    """Tokens equal to the one before them in their clip: [codebooks]."""
    items: int
    """Frames: tokens of each codebook."""
    still: int | None
    """Frames in long stretches without any change, such as silence; None for a key without a frame rate."""
    still_clips: int
    """Clips that are one such stretch."""
    tars: int
    """Committed tars that these histograms are of."""
    committed: int
    """Committed tars."""
    audio_seconds: float
    """Audio of the counted tars."""

    @property
    def per_second(self) -> float:
        """Tokens of all codebooks per second of audio."""
        return self.items * len(self.counts) / self.audio_seconds if self.audio_seconds > 0 else 0.0

    @property
    def still_share(self) -> float | None:
        """Share of frames in such stretches."""
        return self.still / self.items if self.still is not None and self.items else None


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


def describe_codebooks(field: FieldTokens) -> list[Codebook]:
    """The codebooks of one key, in order."""
    found = []
    for number, counts in enumerate(field.counts):
        tokens = int(counts.sum())
        seen = counts[counts > 0] / max(tokens, 1)
        found.append(
            Codebook(
                number=number,
                size=len(counts),
                used=len(seen),
                tokens=tokens,
                entropy_bits=float(-(seen * np.log2(seen)).sum()) + 0.0,
                top_share=float(seen.max()) if len(seen) else 0.0,
                repeat_share=int(field.repeated[number]) / max(tokens, 1),
            )
        )
    return found
