"""Which clips of several runs are the same: the one rule for reading runs together.

A clip is the same in two runs if its tar is, its `audio_file` is, and as many lines with that name stand before its own. A
base name is not enough, since two folders may hold files of one name. Two tars are the same if they have the same path, or
else the same output name, and the same size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted

__all__ = ["ClipKey", "KeyedLines", "RunTar", "in_all", "same_tars"]

ClipKey = tuple[str, int]
"""A clip of a tar: its `audio_file`, and the number of lines with that name before its own."""
Key = TypeVar("Key")


class KeyedLines:
    """Gives the lines of one committed file their keys. Call `key` once per line, in order, errors included."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def key(self, audio_file: str) -> ClipKey:
        """The key of the next line."""
        place = self._seen[audio_file]
        self._seen[audio_file] = place + 1
        return audio_file, place


def in_all(keys: Sequence[Mapping[Key, object]]) -> list[Key]:
    """The keys that are in every mapping, in the order of the first."""
    first, *others = keys
    return [key for key in first if all(key in other for other in others)]


@dataclass(frozen=True, slots=True)
class RunTar:
    """A tar that a run has committed."""

    name: str
    """Its output name in the run."""
    path: str
    size: int
    """Bytes of the tar."""


def same_tars(runs: Sequence[Sequence[RunTar]], called: Sequence[object]) -> Iterator[list[RunTar | None]]:
    """For each tar that any run has, the tar of each run, or None: first the tars of the first run, in its order.

    `called`: each run, for messages. Raises UsageError if tars that are the same by path or name differ in size.
    """
    left = [{tar.name: tar for tar in tars} for tars in runs]
    by_path = [{tar.path: tar.name for tar in tars} for tars in runs]
    for number in range(len(runs)):
        for tar in list(left[number].values()):
            row: list[RunTar | None] = [None] * number
            for other in range(number, len(runs)):
                match = left[other].pop(_name_in(by_path[other], tar, left[other], by_path[number]), None)
                if match is not None and match.size != tar.size:
                    raise UsageError(
                        f"{tar.name}: {called[number]} is of a tar of {counted(tar.size, 'byte')}, {called[other]} of one "
                        f"of {match.size:,}: expected runs over the same tars"
                    )
                row.append(match)
            yield row


def _name_in(names: Mapping[str, str], tar: RunTar, there: Mapping[str, RunTar], ours: Mapping[str, str]) -> str:
    """The name of a tar in another run, whose `names` are by path. A tar that both runs have under its own path is never
    matched by name.
    """
    if (name := names.get(tar.path)) is not None:
        return name
    namesake = there.get(tar.name)
    return tar.name if namesake is None or namesake.path not in ours else ""
