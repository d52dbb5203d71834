"""The first clips of random tars, as small tars of their own: members are copied byte for byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audio_tokenizers.errors import UsageError
from jobs.addresses import place_of
from jobs.spec import TokenizeSpec
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_headers import BLOCK
from jobs.tar_paths import TarPaths
from jobs.tar_source import READ_BYTES, TarSource, tar_source
from tools.common.rereading import Rereading
from tools.comparing.sample import in_random_order

__all__ = ["Excerpt", "Excerpts", "cut_excerpts"]

TARS = 2
"""Tars that share the clips, if the list has as many with clips."""
MOST_TARS = 50
"""Tars that are opened in search of clips."""
END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Consecutive clips of a tar of the list."""

    source: str
    """The tar of the list."""
    path: Path
    """The small tar, uncompressed. Its stem is that of the source, which decides which clips are in a subset."""
    clips: int
    bytes: int
    """Bytes of the source, as it is stored, that these clips take."""


@dataclass(slots=True)
class Excerpts:
    """What was cut."""

    parts: list[Excerpt] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    """Tar -> why it, or its rest, could not be read."""

    @property
    def clips(self) -> int:
        """Of all parts."""
        return sum(part.clips for part in self.parts)

    @property
    def tars(self) -> int:
        """Tars of the list that have a part."""
        return len({part.source for part in self.parts})


@dataclass(slots=True)
class _Beginning:
    """The first clips of a tar."""

    ends: list[tuple[int, int]] = field(default_factory=list)
    """(clips so far, byte of the uncompressed tar at which the next ones begin)"""
    share: float = 1.0
    """Stored bytes of a byte of the uncompressed tar, if it is compressed. A decompressor reads ahead, up to 128 KiB."""
    links: bool = False
    """Clips are links to other members, which have to be in the same part."""
    fault: str = ""


def cut_excerpts(
    tars: Sequence[str], clips: int, parts: int, spec: TokenizeSpec, folder: Path, seed: int, *, allow_pipe: bool = False
) -> Excerpts:
    """About `clips` clips, half of them from the beginning of each of two random tars, in about `parts` small tars below
    `folder`. If a tar has too few, the next one in the order of `seed` gives the rest. No tar is read beyond its share.

    Raises OSError if `folder` cannot be written.
    """
    found = Excerpts()
    for number, tar in enumerate(in_random_order(tars, seed)[:MOST_TARS]):
        left = clips - found.clips
        if left <= 0 and found.tars >= TARS:
            break
        share = math.ceil(clips / TARS) if not found.tars and len(tars) > 1 else max(left, 1)
        try:
            source = tar_source(tar, allow_pipe=allow_pipe)
            beginning = _read_beginning(source, share, spec)
        except (TarDamage, OSError, UsageError) as error:
            found.faults[tar] = (isinstance(error, OSError) and error.strerror) or str(error)
            continue
        if beginning.fault:
            found.faults[tar] = beginning.fault
        if beginning.ends:
            each = beginning.ends[-1][0] if beginning.links else max(1, math.ceil(clips / parts))
            found.parts += _cut(tar, source, beginning, each, folder / f"{number:02}")
    return found


def _read_beginning(source: TarSource, clips: int, spec: TokenizeSpec) -> _Beginning:
    """Where the first clips of a tar end. Damage ends it: the clips before are good."""
    found = _Beginning()
    count = 0
    with Rereading(spec.extensions, spec.sniff, subset_ratio=spec.subset_ratio).open(source) as reader:
        try:
            for clip in reader:
                clip.close()
                count += 1
                if found.ends and found.ends[-1][1] == reader.next_offset:
                    found.ends.pop()  # another clip of one group
                elif count > clips:
                    break
                found.ends.append((count, reader.next_offset))
                found.share = reader.bytes_consumed / max(reader.next_offset, 1)
        except TarDamage as error:
            found.fault = str(error)
        if found.ends:
            found.links = reader.linked_clips > 0
    return found


def _cut(tar: str, source: TarSource, beginning: _Beginning, each: int, folder: Path) -> list[Excerpt]:
    """The clips of a beginning, about `each` of them in a part."""
    stem = TarPaths.stem(place_of(tar))
    found: list[Excerpt] = []
    stream = TarStream(source)
    try:
        first = next(iter(stream)).offset
    finally:
        stream.close()
    stream = TarStream(source)
    try:
        preamble = stream.read_raw(first)  # headers for all members
        done = 0
        for clips, end in beginning.ends:
            if clips - done < each and (clips, end) != beginning.ends[-1]:
                continue
            path = folder / f"{len(found):03}" / f"{stem}.tar"
            path.parent.mkdir(parents=True)
            with path.open("xb") as file:
                file.write(preamble)
                while piece := stream.read_raw(min(READ_BYTES, end - stream.offset)):
                    file.write(piece)
                size = file.tell() - len(preamble)
                file.write(END)
            found.append(Excerpt(tar, path, clips - done, size if stream.is_plain else round(size * beginning.share)))
            done = clips
    finally:
        stream.close()
    return found
