"""A data set as tools.pack sees it: items in a fixed order, each a pair of audio and text, or left out."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, get_args

import msgspec

from jobs.subset import in_share
from jobs.text_rules import TextRules

__all__ = [
    "PACKED",
    "REASONS",
    "Item",
    "LeftOut",
    "Pair",
    "Reason",
    "Source",
    "SourceOptions",
    "describe_found",
    "is_excluded",
    "is_outside",
]

Reason = Literal[
    "audio_without_text",
    "text_without_audio",
    "duplicate",
    "empty_text",
    "unreadable_text",
    "unreadable_audio",
    "not_validated",
    "subtitles",
    "unreadable_line",
    "excluded",
    "outside_subset",
    "link",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

PACKED = ".pack"
"""Marks an --output-dir: tools/packing/tar_folder.py keeps its state in it, and no source takes files beside it for data."""
EXTENSIONS_SHOWN = 8


class LeftOut(msgspec.Struct, frozen=True):
    """Something in the source that is not packed."""

    reason: Reason
    name: str
    """As the source names it: a relative path, an utterance, a row."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One clip and its annotations, read."""

    id: str
    """Unique in its source: the audio's relative path without extension, or an id of the source."""
    audio_name: str
    """The relative path of the audio in the source, with its extension."""
    audio: bytes | BinaryIO
    """Its unchanged bytes; if large, an open file at position 0, which the consumer closes."""
    size: int
    """Bytes of `audio`."""
    text: str | None
    text_name: str | None = None
    """The file of the text, if it has one of its own."""
    language: str | None = None
    metadata: dict[str, Any] | None = None
    """All other annotations of the clip."""


Item = Callable[[], Pair | LeftOut]
"""Reads one item. Called once, possibly in another thread, roughly in the order of the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of the command line that concern a source."""

    exclude: tuple[str, ...] = ()
    """Globs; see `is_excluded`."""
    subset_ratio: float = 1.0
    """Share of the clips; see `is_outside`."""
    without_text: bool = False
    """Also take audio without text."""
    texts: TextRules = field(default_factory=TextRules)
    """The encoding of texts, and the keys that hold them."""
    follow_links: bool = False
    """Also take targets of links outside of the source."""
    scratch: Path
    """A private folder for temporary files, beside the tars. It is removed afterwards."""


class Source(Protocol):
    """A listed data set. Listing reads names and sizes, and as little else as the format allows."""

    name: str
    """The base name of its tars."""
    fingerprint: str
    """Hash of everything that was listed; identifies the data set."""
    items_total: int
    bytes_total: int
    """Of audio, for the ETA."""
    left_out: Sequence[LeftOut]
    """What is left out according to the list alone."""
    found: Counter[str]
    """Files by extension, or other things found: for the message that there are no pairs."""

    def items(self, start: int) -> Iterator[Item]:
        """The items from number `start` on, always in the same order.

        Raises UsageError if the source is damaged or hostile, InfrastructureError if the machine is at fault.
        """


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Whether a glob matches the whole relative path, or one of its folders, or its last part with or without extension."""
    parts = name.split("/")
    parts.append(parts[-1].rpartition(".")[0])
    return any(fnmatch.fnmatchcase(part, pattern) for pattern in patterns for part in (name, *parts))


def is_outside(clip: str, options: SourceOptions) -> bool:
    """Whether the clip with this id is outside of the share that is packed. Its id is relative to the source, so copies of
    a data set have the same share.
    """
    return options.subset_ratio < 1 and not in_share((clip,), options.subset_ratio, "pack")


def describe_found(found: Counter[str]) -> str:
    """The most common ones as text: `1,200 .mp3, 3 .csv`."""
    named = [f"{number:,} {what}" for what, number in found.most_common(EXTENSIONS_SHOWN)]
    return ", ".join(named + (["and others"] if len(found) > EXTENSIONS_SHOWN else [])) or "nothing"
