"""An archive that is read from beginning to end in one pass, whatever the order of its members, as a source.

An item is complete when the last of its members was read. Earlier members are kept in memory up to a limit, else in
numbered files: no file is named after a member.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audio_tokenizers.errors import InfrastructureError
from jobs.sidecars import reading_of
from jobs.tar_reader import AUDIO_IN_MEMORY
from jobs.text_rules import TextRules
from tools.packing.archives.listing import Listing, MemberData, Tables, open_nameless, pair_of, read_text
from tools.packing.archives.safety import require_space
from tools.packing.layouts.tree import Layout, Planned
from tools.packing.pairs import Item, LeftOut, Pair

__all__ = ["WAITING_IN_MEMORY", "OpenData", "StreamedSource"]

WAITING_IN_MEMORY = 64 << 20

OpenData = Callable[[Collection[int]], AbstractContextManager[Iterator[tuple[int, MemberData]]]]
"""Opens the archive for a pass over the members at these positions; gives (position, data) of each, in order."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One item; steps are in the order in which items become complete."""

    complete: int
    """Position of the last member that it needs."""
    audio: int
    texts: tuple[int, ...]
    """Positions; none for texts in a table, which was read before."""
    planned: Planned


class StreamedSource:
    """The pairs of a solid archive or a tar.

    `tables` are the contents of members that were already read, by position. Tables that are missing there cost a pass of
    their own: those in a 7z, and those beyond 64 MiB in a tar.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        listing: Listing,
        open_data: OpenData,
        scratch: Path,
        tables: Mapping[int, bytes],
        texts: TextRules | None = None,
    ) -> None:
        self.name = name
        self._path = path
        self.fingerprint = listing.fingerprint
        self.found: Counter[str] = listing.found
        self._listing = listing
        self._open_data = open_data
        self._scratch = scratch
        self.left_out: Sequence[LeftOut] = (*listing.left_out, *self._read_tables(tables))
        self._steps = _steps(listing)
        listing.layout.reading = reading_of(texts or TextRules(), self._texts)
        self.items_total = len(self._steps)
        self.bytes_total = listing.bytes_total
        require_space(path, scratch, _most_waiting(listing, self._steps))

    def _read_tables(self, tables: Mapping[int, bytes]) -> list[LeftOut]:
        layout, positions = self._listing.layout, self._listing.positions
        wanted = {positions[name]: name for name in layout.tables}
        missing = wanted.keys() - tables.keys()
        with closing(Tables(self._path, self._scratch)) as kept:
            for position in sorted(wanted.keys() & tables.keys()):
                kept.keep(wanted[position], tables[position])
            if missing:
                with self._open_data(missing) as passing:
                    for position, data in passing:
                        kept.keep(wanted[position], data)
            return layout.shelf.read(kept.open)

    def _texts(self) -> Iterator[bytes]:
        """The contents of the sidecars, in a pass of its own. Needed only if texts are not UTF-8."""
        with self._open_data({position for step in self._steps for position in step.texts}) as passing:
            for _, data in passing:
                yield read_text(data)

    def items(self, start: int) -> Iterator[Item]:
        """The items from number `start` on; earlier ones are read past.

        Raises UsageError where the archive is damaged, at the latest at its end, and InfrastructureError if it cannot be
        read, or kept data cannot be written.
        """
        try:
            yield from self._items(self._steps[start:])
        except OSError as error:
            raise InfrastructureError(
                f"{error.filename or self._path}: {error.strerror or error}; run the same command again when that is fixed"
            ) from error

    def _items(self, steps: Sequence[_Step]) -> Iterator[Item]:
        if not steps:
            return
        complete: dict[int, list[_Step]] = {}
        readers: Counter[int] = Counter()
        for step in steps:
            complete.setdefault(step.complete, []).append(step)
            readers.update(step.texts)
        audio = {step.audio for step in steps}
        shelf = _Shelf(self._scratch)
        with self._open_data(audio | readers.keys()) as passing:
            for position, data in passing:
                if position in audio:
                    shelf.put_audio(position, data)
                else:
                    shelf.put(position, read_text(data))
                for step in complete.get(position, ()):
                    yield self._item(step, shelf, readers)

    def _item(self, step: _Step, shelf: _Shelf, readers: Counter[int]) -> Item:
        contents: dict[str, bytes] = {}
        for position in step.texts:
            readers[position] -= 1
            held = shelf.take(position, keep=readers[position] > 0)
            contents[self._listing.members[position].name] = held if isinstance(held, bytes) else held.read_bytes()
            if isinstance(held, Path) and not readers[position]:
                held.unlink()
        size = self._listing.members[step.audio].size
        return _Ready(step.planned, self._listing.layout, contents, shelf.take(step.audio), size)


def _steps(listing: Listing) -> Sequence[_Step]:
    steps = []
    for planned in listing.planned:
        audio = listing.positions[planned.audio]
        texts = tuple(listing.positions[name] for name in planned.files if name not in listing.layout.tables)
        steps.append(_Step(max((audio, *texts)), audio, texts, planned))
    return sorted(steps, key=lambda step: (step.complete, step.audio))


def _most_waiting(listing: Listing, steps: Sequence[_Step]) -> int:
    """The most bytes of audio that are kept in files at one time."""
    changes: Counter[int] = Counter()
    for step in steps:
        if step.complete > step.audio:
            changes[step.audio] += listing.members[step.audio].size
            changes[step.complete] -= listing.members[step.audio].size
    now = most = 0
    for position in sorted(changes):
        now += changes[position]
        most = max(most, now)
    return most if most > WAITING_IN_MEMORY else 0


class _Shelf:
    """Members that were read and are still needed, by position."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._held: dict[int, bytes | Path] = {}
        self._in_memory = 0

    def put_audio(self, position: int, data: MemberData) -> None:
        """Keep audio; large audio goes to a file."""
        if data.member.size <= AUDIO_IN_MEMORY:
            self.put(position, data.read_all())
        else:
            path = self._path(position)
            with path.open("wb") as file:
                data.copy_to(file)
            self._held[position] = path

    def put(self, position: int, content: bytes) -> None:
        """Keep content in memory up to the limit, else in a file."""
        if self._in_memory + len(content) > WAITING_IN_MEMORY:
            path = self._path(position)
            path.write_bytes(content)
            self._held[position] = path
        else:
            self._held[position] = content
            self._in_memory += len(content)

    def take(self, position: int, *, keep: bool = False) -> bytes | Path:
        """The content, or the file that holds it, which the caller then owns."""
        if keep:
            return self._held[position]
        held = self._held.pop(position)
        if isinstance(held, bytes):
            self._in_memory -= len(held)
        return held

    def _path(self, position: int) -> Path:
        return self._scratch / f"{position:08d}"


@dataclass(frozen=True, slots=True)
class _Ready:
    """An item whose members were all read."""

    planned: Planned
    layout: Layout
    contents: Mapping[str, bytes]
    audio: bytes | Path
    size: int

    def __call__(self) -> Pair | LeftOut:
        item = pair_of(self.planned, self.layout, self.contents, self._opened, self.size)
        if isinstance(item, LeftOut) and isinstance(self.audio, Path):
            self.audio.unlink()
        return item

    def _opened(self) -> bytes | BinaryIO:
        if isinstance(self.audio, bytes):
            return self.audio
        if self.size <= AUDIO_IN_MEMORY:
            content = self.audio.read_bytes()
            self.audio.unlink()
            return content
        return open_nameless(self.audio)
