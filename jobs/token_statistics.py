"""What a manifest says of its tar's tokens, key by key and codebook by codebook, and how to read it from there.

    found = read_statistics(paths.manifest)          # TokenStatistics, or None where nobody counted
    found.sequences["tokens"].histograms()           # int64 [codebooks, ids]

jobs/token_counter.py counts; tools/checking/token_totals.py adds up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from jobs.any_json import decode_json
from jobs.manifest import Maker, Manifest
from jobs.packed_counts import Counts, PackedCounts, pack_counts, unpack_counts
from jobs.sequence_counter import SequenceCounter

__all__ = [
    "CodebookStatistics",
    "CommittedManifest",
    "LongestStretch",
    "SequenceStatistics",
    "TokenStatistics",
    "entropy_bits",
    "read_statistics",
]

NAME_CHARACTERS = 200
"""Of a clip's name: a manifest stays small whatever a tar has for names."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Amount = Annotated[float, msgspec.Meta(ge=0)]


class LongestStretch(msgspec.Struct, frozen=True, kw_only=True):
    """The longest stretch of a tar in which a codebook keeps one token, within one clip; the first of several."""

    items: _Count
    """Frames."""
    token: int
    clip: _Count
    """Number of the clip in the tar, and of its line in the file, from 0."""
    name: str
    """Of the clip, cut to NAME_CHARACTERS."""


class CodebookStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Exact figures of one codebook."""

    used: _Count
    """Ids that occur."""
    entropy: _Amount
    """Bits per token of the histogram, to 4 decimals."""
    repeated: _Count
    """Tokens that equal the one before them in their clip."""
    longest: LongestStretch | None = None
    """None without tokens."""


class SequenceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the records; of Step-Audio's string, one of its two streams."""

    clips: _Count
    items: _Count
    """Frames: tokens per codebook."""
    lowest: int
    size: Annotated[int, msgspec.Meta(gt=0, le=1 << 24)]
    """Ids are lowest..lowest+size-1."""
    items_per_second: _Amount | None
    """None where the number of tokens does not follow from a clip's length, as for text."""
    still: _Count
    """Frames in stretches of at least half a second in which no codebook changes."""
    still_clips: _Count
    """Clips of at least half a second in which none ever changes."""
    codebooks: tuple[CodebookStatistics, ...]
    counts: PackedCounts

    @classmethod
    def of(cls, counter: SequenceCounter, sample_rate: int) -> SequenceStatistics:
        """What a counter found."""
        counter.finish()
        counts, rate = counter.counts, counter.field.samples_per_item
        codebooks = tuple(
            CodebookStatistics(
                used=int(np.count_nonzero(counts[k])),
                entropy=round(entropy_bits(counts[k]), 4),
                repeated=int(counter.repeated[k]),
                longest=None
                if longest is None
                else LongestStretch(
                    items=longest.items, token=longest.token, clip=longest.clip, name=longest.name[:NAME_CHARACTERS]
                ),
            )
            for k, longest in enumerate(counter.longest)
        )
        return cls(
            clips=counter.clips,
            items=counter.items,
            lowest=counter.field.lowest,
            size=counter.field.codebook_size,
            items_per_second=round(sample_rate / rate, 6) if rate else None,
            still=counter.still,
            still_clips=counter.still_clips,
            codebooks=codebooks,
            counts=pack_counts(counts),
        )

    def histograms(self) -> Counts:
        """How often each id occurs, as exactly as the manifest has it: int64 [codebooks, size].

        Raises ValueError if what the manifest has contradicts itself.
        """
        counts = unpack_counts(self.counts, self.size)
        sums = counts.sum(axis=1)
        exact = self.counts.rounded_to is None and self.counts.left_out_below == 1
        fits = (sums == self.items).all() if exact else (sums <= 2 * self.items).all()
        if len(counts) != len(self.codebooks) or not fits:
            raise ValueError(f"expected {len(self.codebooks)} histograms of {self.items} tokens, found {sums.tolist()}")
        return counts


class TokenStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The records with tokens of one tar. A function of the committed file alone: no interruption changes it."""

    clips: _Count = 0
    audio_seconds: _Amount = 0.0
    text_clips: _Count = 0
    """Clips with a transcript."""
    text_characters: _Count = 0
    """Of all transcripts, spaces included."""
    text_seconds: _Amount = 0.0
    """Audio of the clips with a transcript."""
    sequences: dict[str, SequenceStatistics] = {}
    """By key of the records. Keys with floats have none."""


class CommittedManifest(Manifest, frozen=True, kw_only=True):
    """A manifest as it is written at a commit. Most readers need `Manifest` alone, which takes a fraction of the time."""

    tokens: TokenStatistics | None = None
    """None if a version wrote it that did not count."""


class _Counted(msgspec.Struct, frozen=True):
    tokens: TokenStatistics | None = None
    made_by: tuple[Maker, ...] = ()


def read_statistics(manifest: Path | str) -> TokenStatistics | None:
    """The statistics in a manifest; None where it has none, or does not exist. Raises ValueError for anything else."""
    try:
        data = Path(manifest).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode_json(data, _Counted).tokens
    except msgspec.DecodeError as error:
        raise ValueError(f"{manifest}: the statistics of its tokens are damaged: {error}") from None


def entropy_bits(counts: npt.NDArray[np.int64]) -> float:
    """Entropy of a histogram [ids] in bits per token; 0 without tokens."""
    total = counts.sum()
    if not total:
        return 0.0
    shares = counts[counts > 0] / total
    return abs(float((shares * np.log2(shares)).sum()))
