"""Pure: the statistics of many tars' tokens, added up: of the whole run, by tar, and by the GPU that made them.

    totals = TokenTotals()
    totals.add("000001", statistics, maker)
    totals.sequences["tokens"].counts          # int64 [codebooks, ids]

tools/checking/token_reading.py reads them from a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jobs.manifest import Maker, Manifest
from jobs.packed_counts import Counts
from jobs.token_statistics import LongestStretch, SequenceStatistics, TokenStatistics

__all__ = ["CONSTANT_SECONDS", "Device", "SequenceTotals", "TarStretch", "TokenTotals", "maker_of"]

CONSTANT_SECONDS = 10.0
"""Stretches of one token that are longer are kept with their clips."""
OTHERS = "those of other tars of the run are others"


class Device(NamedTuple):
    """What makes tokens, and should make the same ones as any other."""

    node: str
    name: str
    """`cpu`, or the GPU's name."""
    gpu: str
    """Its UUID or number; empty on a CPU."""


class TarStretch(NamedTuple):
    """The longest stretch of a codebook in a tar."""

    tar: str
    codebook: int
    stretch: LongestStretch


@dataclass
class DeviceTotals:
    """What one device made: tars that it alone worked on."""

    counts: Counts
    tars: int = 0
    items: int = 0


@dataclass
class SequenceTotals:
    """One key of the records over many tars."""

    lowest: int
    size: int
    items_per_second: float | None
    counts: Counts
    """How often each id occurs: int64 [codebooks, size]."""
    repeated: Counts
    """int64 [codebooks]"""
    longest: list[TarStretch | None]
    """By codebook."""
    clips: int = 0
    items: int = 0
    still: int = 0
    still_clips: int = 0
    rounded: bool = False
    """Some tars' counts are rounded: so are sums and entropy."""
    left_out: bool = False
    """Some tars' rarest ids are missing: more ids may be used than `counts` has."""
    tars: list[str] = field(default_factory=list)
    """Names of the tars with tokens, in order; the next three are by tar."""
    tar_items: list[int] = field(default_factory=list)
    tar_still_clips: list[tuple[int, int]] = field(default_factory=list)
    """(clips that never change, clips)"""
    tar_entropies: list[tuple[float, ...]] = field(default_factory=list)
    """Bits per token, by codebook, corrected for the number of tokens."""
    constant: list[TarStretch] = field(default_factory=list)
    """Of each tar and codebook, if longer than CONSTANT_SECONDS."""
    devices: dict[Device, DeviceTotals] = field(default_factory=dict)

    @classmethod
    def like(cls, found: SequenceStatistics) -> SequenceTotals:
        """Empty totals of such a sequence."""
        codebooks = len(found.codebooks)
        counts = np.zeros((codebooks, found.size), np.int64)
        repeated = np.zeros(codebooks, np.int64)
        return cls(found.lowest, found.size, found.items_per_second, counts, repeated, [None] * codebooks)

    def fits(self, lowest: int, size: int, codebooks: int) -> bool:
        """Whether statistics of these ids and codebooks can be added."""
        return (lowest, size, codebooks) == (self.lowest, self.size, len(self.longest))

    def add(self, tar: str, found: SequenceStatistics, counts: Counts, device: Device | None) -> None:
        """Add a tar's statistics, with the histograms that they hold."""
        self.clips += found.clips
        self.items += found.items
        self.still += found.still
        self.still_clips += found.still_clips
        self.rounded |= found.counts.rounded_to is not None
        self.left_out |= found.counts.left_out_below > 1
        self.counts += counts
        self.repeated += [codebook.repeated for codebook in found.codebooks]
        for k, codebook in enumerate(found.codebooks):
            if codebook.longest is not None:
                self._note(TarStretch(tar, k, codebook.longest))
        if found.items:
            self.tars.append(tar)
            self.tar_items.append(found.items)
            self.tar_still_clips.append((found.still_clips, found.clips))
            self.tar_entropies.append(tuple(_corrected(c.entropy, c.used, found.items) for c in found.codebooks))
        if device is not None:
            made = self.devices.setdefault(device, DeviceTotals(np.zeros_like(self.counts)))
            made.counts += counts
            made.tars += 1
            made.items += found.items

    def _note(self, found: TarStretch) -> None:
        known = self.longest[found.codebook]
        if known is None or found.stretch.items > known.stretch.items:
            self.longest[found.codebook] = found
        if self.items_per_second and found.stretch.items > CONSTANT_SECONDS * self.items_per_second:
            self.constant.append(found)

    def join(self, other: SequenceTotals) -> None:
        """Add what `other` has of further tars."""
        self.clips += other.clips
        self.items += other.items
        self.still += other.still
        self.still_clips += other.still_clips
        self.rounded |= other.rounded
        self.left_out |= other.left_out
        self.counts += other.counts
        self.repeated += other.repeated
        for k, longest in enumerate(other.longest):
            known = self.longest[k]
            if longest is not None and (known is None or longest.stretch.items > known.stretch.items):
                self.longest[k] = longest
        self.tars += other.tars
        self.tar_items += other.tar_items
        self.tar_still_clips += other.tar_still_clips
        self.tar_entropies += other.tar_entropies
        self.constant += other.constant
        for device, made in other.devices.items():
            mine = self.devices.setdefault(device, DeviceTotals(np.zeros_like(self.counts)))
            mine.counts += made.counts
            mine.tars += made.tars
            mine.items += made.items


@dataclass
class TokenTotals:
    """The tokens of a run, or of some of its tars."""

    tars: int = 0
    """Tars with statistics."""
    not_counted: list[str] = field(default_factory=list)
    """Names of tars whose manifests have none: an older version wrote them."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Name -> what is wrong with its statistics."""
    clips: int = 0
    audio_seconds: float = 0.0
    text_clips: int = 0
    text_characters: int = 0
    text_seconds: float = 0.0
    sequences: dict[str, SequenceTotals] = field(default_factory=dict)

    def add(self, tar: str, found: TokenStatistics | None, device: Device | None = None) -> None:
        """Add one tar; `device` made all of its lines, if known."""
        if found is None:
            self.not_counted.append(tar)
            return
        try:
            histograms = {key: self._checked(key, sequence) for key, sequence in found.sequences.items()}
        except ValueError as error:
            self.damaged[tar] = str(error)
            return
        self.tars += 1
        self.clips += found.clips
        self.audio_seconds += found.audio_seconds
        self.text_clips += found.text_clips
        self.text_characters += found.text_characters
        self.text_seconds += found.text_seconds
        for key, sequence in found.sequences.items():
            if key not in self.sequences:
                self.sequences[key] = SequenceTotals.like(sequence)
            self.sequences[key].add(tar, sequence, histograms[key], device)

    def _checked(self, key: str, found: SequenceStatistics) -> Counts:
        known = self.sequences.get(key)
        if known is not None and not known.fits(found.lowest, found.size, len(found.codebooks)):
            raise ValueError(f"{key} has {len(found.codebooks)} codebooks of {found.size} ids, {OTHERS}")
        return found.histograms()

    def join(self, other: TokenTotals) -> None:
        """Add what `other` has of further tars."""
        self.tars += other.tars
        self.not_counted += other.not_counted
        self.damaged.update(other.damaged)
        self.clips += other.clips
        self.audio_seconds += other.audio_seconds
        self.text_clips += other.text_clips
        self.text_characters += other.text_characters
        self.text_seconds += other.text_seconds
        for key, sequence in other.sequences.items():
            known = self.sequences.setdefault(key, sequence)
            if known is sequence:
                continue
            if known.fits(sequence.lowest, sequence.size, len(sequence.longest)):
                known.join(sequence)
            else:
                what = f"{key} has {len(sequence.longest)} codebooks of {sequence.size} ids, {OTHERS}"
                self.damaged.update(dict.fromkeys(sequence.tars, what))


def maker_of(manifest: Manifest) -> Device | None:
    """The device that made all lines of a tar; None if there were several, or nobody knows."""
    makers: Sequence[Maker] = manifest.made_by
    if len(makers) != 1 or makers[0].clips != manifest.clips:
        return None
    return Device(makers[0].node, makers[0].device, makers[0].gpu)


def _corrected(entropy: float, used: int, items: int) -> float:
    """The entropy that a histogram of `items` tokens is most likely drawn from: bits, after Miller and Madow (1955).

    Few tokens miss ids, and look more certain than they are.
    """
    return entropy + (used - 1) / (2 * items * math.log(2))
