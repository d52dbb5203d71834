"""Pure: what `check_progress --tokens` reports, from the totals of a run's tokens."""

from __future__ import annotations

import msgspec
import numpy as np

from jobs.token_statistics import entropy_bits
from tools.checking.token_judge import TokenWarning, judge_tokens
from tools.checking.token_totals import SequenceTotals, TokenTotals

__all__ = ["CodebookReport", "DeviceReport", "SequenceReport", "StretchReport", "TokenReport", "report_tokens"]


class StretchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The longest stretch of one token in the run."""

    tar: str
    """Name of its output."""
    clip: str
    line: int
    """Of the clip in NAME.jsonl, from 1."""
    token: int
    items: int
    seconds: float | None
    """None for a sequence without a rate."""


class CodebookReport(msgspec.Struct, frozen=True, kw_only=True):
    """One codebook over the run."""

    tokens: int
    used: int
    """Ids that occur."""
    dead: int
    """Ids that do not."""
    entropy: float
    """Bits per token."""
    repeated_share: float
    """Share of the tokens that have one before them in their clip and equal it."""
    longest: StretchReport | None


class SequenceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the records; of Step-Audio's string, one of its two streams."""

    key: str
    lowest: int
    size: int
    clips: int
    items: int
    """Frames."""
    items_per_second: float | None
    items_per_character: float | None
    """Frames per character of transcript, over clips that have one, by their share of the audio; None without texts."""
    still_share: float
    """Share of frames in stretches of at least half a second in which no codebook changes."""
    still_clips: int
    """Clips of at least half a second in which none ever changes."""
    rounded: bool
    """Some tars' histograms are rounded, and with them `entropy`."""
    left_out: bool
    """Some tars' rarest ids are missing: `used` may be too low."""
    codebooks: tuple[CodebookReport, ...]


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one device made alone."""

    node: str
    device: str
    gpu: str
    tars: int


class TokenReport(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of a run's committed files."""

    tars: int
    """Tars whose tokens are counted."""
    not_counted: int
    """Tars that a version committed which did not count."""
    damaged: dict[str, str]
    """Output name -> what is wrong with its statistics."""
    clips: int
    audio_hours: float
    text_clips: int
    characters_per_second: float | None
    """Of transcripts, per second of their audio; None without any."""
    sequences: tuple[SequenceReport, ...]
    devices: tuple[DeviceReport, ...]
    """That made whole tars alone, by node."""
    tars_compared: int
    """Tars with enough tokens to compare them; 0 if there are too few of these."""
    devices_compared: int
    """GPUs, or nodes without any, likewise."""
    warnings: tuple[TokenWarning, ...]


def report_tokens(totals: TokenTotals) -> TokenReport:
    """The report, with its warnings."""
    judgement = judge_tokens(totals)
    first = next(iter(totals.sequences.values()), None)
    devices = sorted((first.devices if first is not None else {}).items())
    return TokenReport(
        tars=totals.tars,
        not_counted=len(totals.not_counted),
        damaged=totals.damaged,
        clips=totals.clips,
        audio_hours=round(totals.audio_seconds / 3600, 6),
        text_clips=totals.text_clips,
        characters_per_second=round(totals.text_characters / totals.text_seconds, 3) if totals.text_seconds else None,
        sequences=tuple(_sequence(key, found, totals) for key, found in totals.sequences.items()),
        devices=tuple(
            DeviceReport(node=device.node, device=device.name, gpu=device.gpu, tars=made.tars) for device, made in devices
        ),
        tars_compared=judgement.tars,
        devices_compared=judgement.devices,
        warnings=judgement.warnings,
    )


def _sequence(key: str, found: SequenceTotals, totals: TokenTotals) -> SequenceReport:
    with_text = found.items * totals.text_seconds / totals.audio_seconds if totals.audio_seconds else 0.0
    return SequenceReport(
        key=key,
        lowest=found.lowest,
        size=found.size,
        clips=found.clips,
        items=found.items,
        items_per_second=found.items_per_second,
        items_per_character=round(with_text / totals.text_characters, 3) if totals.text_characters else None,
        still_share=round(found.still / max(found.items, 1), 6),
        still_clips=found.still_clips,
        rounded=found.rounded,
        left_out=found.left_out,
        codebooks=tuple(_codebook(k, found) for k in range(len(found.longest))),
    )


def _codebook(k: int, found: SequenceTotals) -> CodebookReport:
    used, longest = int(np.count_nonzero(found.counts[k])), found.longest[k]
    stretch = None
    if longest is not None:
        seconds = round(longest.stretch.items / found.items_per_second, 3) if found.items_per_second else None
        stretch = StretchReport(
            tar=longest.tar,
            clip=longest.stretch.name,
            line=longest.stretch.clip + 1,
            token=longest.stretch.token,
            items=longest.stretch.items,
            seconds=seconds,
        )
    return CodebookReport(
        tokens=found.items,
        used=used,
        dead=found.size - used,
        entropy=round(entropy_bits(found.counts[k]), 4),
        repeated_share=round(int(found.repeated[k]) / max(found.items - found.clips, 1), 6),
        longest=stretch,
    )
