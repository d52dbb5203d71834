"""The index of a merged file: which committed file is where, and what a rerun can reuse.

    all.jsonl.gz                  the merged file: a member per committed file that has lines
    all.jsonl.gz.index            JSON lines: a header, then an entry per committed file, in the order of the run's list
    .all.jsonl.gz.partial         the same while it grows
    .all.jsonl.gz.partial.index   the index of what is durable in it
    .all.jsonl.gz.part-*          members made ahead by processes
    .all.jsonl.gz.claim           its writer

An index is valid for a file that ends where its last entry ends.
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
"""Suffix of temporary files of jobs/fileops.py."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the file's lines."""

    shape: Shape | None
    compression: Compression
    format: Literal[1] = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entry of one committed file."""

    name: str
    tar: str
    sha256: str
    """Of the committed file."""
    lines: int
    left_out: dict[str, int] = {}
    """Clips without a line, by kind."""
    end: int
    """Offset in the merged file at which its member ends; it begins where the previous one ends."""

    @classmethod
    def of(cls, file: CommittedFile, made: Made, end: int) -> Entry:
        """The entry of a new member."""
        sha256 = file.manifest.output_sha256
        return cls(name=file.name, tar=file.tar, sha256=sha256, lines=made.lines, left_out=made.left_out, end=end)

    def is_of(self, file: CommittedFile) -> bool:
        """Whether the committed file is unchanged."""
        return (self.name, self.sha256) == (file.name, file.manifest.output_sha256)


@dataclass(frozen=True, slots=True)
class Index:
    """A header and entries."""

    header: Header
    entries: tuple[Entry, ...]
    whole: bool
    """The file ends where the last entry ends, and every line of the index is an entry: the index is valid for the file."""

    @property
    def end(self) -> int:
        """Bytes of the file that the entries cover."""
        return self.entries[-1].end if self.entries else 0


@dataclass(frozen=True, slots=True)
class MergePaths:
    """The paths of one merge, all beside its output."""

    output: Path

    @property
    def index(self) -> Path:
        """The index of the output."""
        return self.output.with_name(f"{self.output.name}.index")

    @property
    def partial(self) -> Path:
        """The growing file."""
        return self._hidden("partial")

    @property
    def partial_index(self) -> Path:
        """The index of the durable part of `partial`."""
        return self._hidden("partial.index")

    @property
    def claim(self) -> Path:
        """The claim of its writer."""
        return self._hidden("claim")

    def part(self, attempt: str, number: int) -> Path:
        """A member made ahead by a process, under a name that no other attempt uses."""
        return self._hidden(f"part-{attempt}-{number:06}")

    def litter(self) -> Iterator[Path]:
        """Files that killed merges may have left; the claim's owner removes them."""
        name = glob.escape(self.output.name)
        yield from self.output.parent.glob(f".{name}.part-*")
        for kind in (f"{name}.index", f".{name}.partial.index", f".{name}.claim"):
            yield from self.output.parent.glob(f".{kind}.{UNIQUE}")

    def _hidden(self, what: str) -> Path:
        return self.output.with_name(f".{self.output.name}.{what}")

    @property
    def compression(self) -> Compression:
        """The compression of members. Raises UsageError if the output's name does not tell."""
        for suffix, compression in COMPRESSIONS.items():
            if self.output.name.endswith(suffix) and self.output.name != suffix:
                return compression
        raise UsageError(f"--output {self.output}: expected a name that ends in {', '.join(COMPRESSIONS)}")


def encode_lines(structs: Iterable[Header | Entry]) -> bytes:
    """As JSON lines."""
    return b"".join(msgspec.json.encode(struct) + b"\n" for struct in structs)


def read_index(path: Path, file: Path) -> Index | None:
    """The entries within the bytes of `file`; None if a file is missing."""
    try:
        size = file.stat().st_size
        lines = path.read_bytes().split(b"\n")[:-1]  # a crash may have truncated the last line
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
    """The leading entries that match `files` as they are now, in their order."""
    same = takewhile(lambda pair: pair[0].is_of(pair[1]), zip(entries, files, strict=False))
    return tuple(entry for entry, _ in same)


def reusable(index: Index | None) -> Mapping[tuple[str, str], tuple[int, Entry]]:
    """(name, sha256) of a committed file -> (offset of its member, its entry), to copy members to other places."""
    if index is None:
        return {}
    starts = [0, *(entry.end for entry in index.entries)]
    return {(entry.name, entry.sha256): (start, entry) for start, entry in zip(starts, index.entries, strict=False)}
