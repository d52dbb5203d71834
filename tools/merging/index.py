"""What a merged file holds of which committed file, and where: its index, and what of it a rerun can use again.

    all.jsonl.gz                  the merged file: a member per committed file that has lines
    all.jsonl.gz.index            JSON lines: a header, then an entry per committed file, in the order of the run's list
    .all.jsonl.gz.partial         the same while it grows
    .all.jsonl.gz.partial.index   the same of what is safely in it
    .all.jsonl.gz.part-*          members that processes make ahead
    .all.jsonl.gz.claim           who works on it

An index vouches for a file that ends where its last entry does.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.any_json import decode_json
from tools.common.run_files import CommittedFile
from tools.merging.members import COMPRESSIONS, Compression, Made
from tools.merging.shapes import Shape

__all__ = ["Entry", "Header", "Index", "MergePaths", "common_prefix", "encode_lines", "read_index", "reusable"]

UNIQUE = "?" * 12
"""What jobs/fileops.py ends the names of its temporary files in."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the lines stand in the file."""

    shape: Shape | None
    compression: Compression
    format: Literal[1] = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one committed file."""

    name: str
    tar: str
    sha256: str
    """Of the committed file."""
    lines: int
    left_out: dict[str, int] = {}
    """Clips without a line, by kind."""
    end: int
    """Byte of the merged file at which its member ends. It begins where the one before ends."""

    @classmethod
    def of(cls, file: CommittedFile, made: Made, end: int) -> Entry:
        """The entry of a member that has just been written."""
        sha256 = file.manifest.output_sha256
        return cls(name=file.name, tar=file.tar, sha256=sha256, lines=made.lines, left_out=made.left_out, end=end)

    def is_of(self, file: CommittedFile) -> bool:
        """Whether the file is as it was then."""
        return (self.name, self.sha256) == (file.name, file.manifest.output_sha256)


@dataclass(frozen=True, slots=True)
class Index:
    """A header and entries."""

    header: Header
    entries: tuple[Entry, ...]
    whole: bool
    """The file ends where the last entry does, and every line of the index was an entry: it vouches for the file."""

    @property
    def end(self) -> int:
        """Bytes of the file that it speaks of."""
        return self.entries[-1].end if self.entries else 0


@dataclass(frozen=True, slots=True)
class MergePaths:
    """Where the files of one merge are: all of them beside its output."""

    output: Path

    @property
    def index(self) -> Path:
        """Vouches for the output."""
        return self.output.with_name(f"{self.output.name}.index")

    @property
    def partial(self) -> Path:
        """What grows."""
        return self._hidden("partial")

    @property
    def partial_index(self) -> Path:
        """Vouches for the first bytes of `partial`."""
        return self._hidden("partial.index")

    @property
    def claim(self) -> Path:
        """Who works on it."""
        return self._hidden("claim")

    def part(self, attempt: str, number: int) -> Path:
        """A member that a process makes ahead, under a name that no other attempt uses."""
        return self._hidden(f"part-{attempt}-{number:06}")

    def litter(self) -> Iterator[Path]:
        """What killed merges may have left, to be removed by whoever has the claim."""
        name = glob.escape(self.output.name)
        yield from self.output.parent.glob(f".{name}.part-*")
        for kind in (f"{name}.index", f".{name}.partial.index", f".{name}.claim"):
            yield from self.output.parent.glob(f".{kind}.{UNIQUE}")

    def _hidden(self, what: str) -> Path:
        return self.output.with_name(f".{self.output.name}.{what}")

    @property
    def compression(self) -> Compression:
        """How the members are compressed. Raises UsageError where the output's name does not say."""
        for suffix, compression in COMPRESSIONS.items():
            if self.output.name.endswith(suffix) and self.output.name != suffix:
                return compression
        raise UsageError(f"--output {self.output}: expected a name that ends in {', '.join(COMPRESSIONS)}")


def encode_lines(structs: Iterable[Header | Entry]) -> bytes:
    """As JSON lines."""
    return b"".join(msgspec.json.encode(struct) + b"\n" for struct in structs)


def read_index(path: Path, file: Path) -> Index | None:
    """The entries that speak of bytes that `file` has, up to the first that does not; None where one is missing."""
    try:
        size = file.stat().st_size
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is a line that a crash has cut
        header = decode_json(lines[0], Header)
    except (FileNotFoundError, IndexError, msgspec.DecodeError):
        return None
    entries: list[Entry] = []
    end = 0
    for line in lines[1:]:
        try:
            entry = decode_json(line, Entry)
        except msgspec.DecodeError:
            break
        if not end <= entry.end <= size:
            break
        entries.append(entry)
        end = entry.end
    return Index(header, tuple(entries), whole=len(entries) == len(lines) - 1 and end == size)


def common_prefix(entries: Sequence[Entry], files: Sequence[CommittedFile]) -> tuple[Entry, ...]:
    """The entries from the first on that speak of `files` as they are now, in their order."""
    same = takewhile(lambda pair: pair[0].is_of(pair[1]), zip(entries, files, strict=False))
    return tuple(entry for entry, _ in same)


def reusable(index: Index | None) -> Mapping[tuple[str, str], tuple[int, Entry]]:
    """(name, sha256) of a committed file -> where its member begins, and its entry: for merges that put it elsewhere."""
    if index is None:
        return {}
    starts = [0, *(entry.end for entry in index.entries)]
    return {(entry.name, entry.sha256): (start, entry) for start, entry in zip(starts, index.entries, strict=False)}
