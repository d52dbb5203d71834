"""What a data set is to tools.pack: items in a fixed order, each of them a pair of audio and text or left out."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, get_args

import msgspec

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
    "link",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

PACKED = ".pack"
"""The folder in an --output-dir that makes it known as one: tools/packing/tar_folder.py keeps its state there, and no source
takes what lies beside it for data."""
EXTENSIONS_SHOWN = 8


class LeftOut(msgspec.Struct, frozen=True):
    """Something of the source that no tar holds."""

    reason: Reason
    name: str
    """As the source names it: a relative path, an utterance, a row."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One clip with what is said of it, read."""

    id: str
    """Unique in its source: the audio's relative path without its extension, or what the source calls it."""
    audio_name: str
    """The relative path of the audio in the source, with its extension."""
    audio: bytes | BinaryIO
    """Its bytes, untouched; a large one as an open file at position 0, which whoever takes the pair closes."""
    size: int
    """Bytes of `audio`."""
    text: str | None
    text_name: str | None = None
    """Where in the source the text stands, if that is a file of its own."""
    language: str | None = None
    metadata: dict[str, Any] | None = None
    """Whatever else the source says of the clip."""


Item = Callable[[], Pair | LeftOut]
"""Reads one item. Called once, perhaps in another thread, in the order of the sequence or nearly so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What the command line says of a source."""

    exclude: tuple[str, ...] = ()
    """Globs; see `is_excluded`."""
    without_text: bool = False
    """Take audio that has no text, too."""
    texts: TextRules = field(default_factory=TextRules)
    """In which encoding texts are, and under which key."""
    follow_links: bool = False
    """Take what links lead to outside of the source, too."""
    scratch: Path
    """A folder of its own for temporary files, beside the tars. It is removed afterwards."""


class Source(Protocol):
    """A data set that has been listed. Listing reads names and sizes, and as little else as its form allows."""

    name: str
    """What its tars are named after."""
    fingerprint: str
    """Hash of all that was listed: another one is another data set."""
    items_total: int
    bytes_total: int
    """Of audio, for the ETA."""
    left_out: Sequence[LeftOut]
    """What the list alone shows to be left out."""
    found: Counter[str]
    """Files by extension, or what else there is: for the message that there are no pairs."""

    def items(self, start: int) -> Iterator[Item]:
        """The items from number `start` on, always in the same order.

        Raises UsageError if the source is damaged or hostile, InfrastructureError if the machine is in trouble.
        """


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Whether a glob matches the whole relative path, or one of its folders, or its last part with or without extension."""
    parts = name.split("/")
    parts.append(parts[-1].rpartition(".")[0])
    return any(fnmatch.fnmatchcase(part, pattern) for pattern in patterns for part in (name, *parts))


def describe_found(found: Counter[str]) -> str:
    """The commonest, in words: `1,200 .mp3, 3 .csv`."""
    named = [f"{number:,} {what}" for what, number in found.most_common(EXTENSIONS_SHOWN)]
    return ", ".join(named + (["and others"] if len(found) > EXTENSIONS_SHOWN else [])) or "nothing"
