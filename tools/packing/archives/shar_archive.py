"""A Shar inside an archive: its tars are unpacked one at a time to a scratch file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from audio_tokenizers.errors import UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from tools.packing.archives.listing import ArchiveMember, MemberData, Tables
from tools.packing.archives.safety import refuse_names, require_space
from tools.packing.archives.shar import Shard, shar_shards
from tools.packing.archives.streamed import OpenData

__all__ = ["ArchivedShards", "shards_in"]


def shards_in(path: Path, members: Sequence[ArchiveMember]) -> list[Shard]:
    """The shards of a Shar in an archive without other audio, in the order of their tars there.

    Raises UsageError if a name is one that no honest archive holds.
    """
    files = [member.name for member in members if member.kind == "file"]
    shards = shar_shards(dict.fromkeys(files))
    if not shards or any(name.rpartition(".")[2].lower() in AUDIO_EXTENSIONS for name in files):
        return []
    refuse_names(path, (member.name for member in members))
    places = _places(members)
    return sorted(shards, key=lambda shard: places[shard.recordings])


def _places(members: Sequence[ArchiveMember]) -> dict[str, int]:
    """Name -> position; the first, if several have that name."""
    found: dict[str, int] = {}
    for position, member in enumerate(members):
        if member.kind == "file":
            found.setdefault(member.name, position)
    return found


class ArchivedShards:
    """The files of a Shar in an archive, for SharSource. The first reading of its tars also keeps its cuts."""

    def __init__(
        self,
        path: Path,
        members: Sequence[ArchiveMember],
        shards: Sequence[Shard],
        open_data: OpenData,
        scratch: Path,
        tables: Mapping[int, bytes],
    ) -> None:
        """`tables`: contents of members that were already read, by position."""
        self._path = path
        self._members = members
        self._places = _places(members)
        self._open_data = open_data
        self._scratch = scratch
        self._tables = Tables(path, scratch)
        weakref.finalize(self, self._tables.close)
        self._missing = {self._places[shard.cuts] for shard in shards}
        for position in sorted(self._missing & tables.keys()):
            self._tables.keep(members[position].name, tables[position])
            self._missing.discard(position)

    def open_table(self, name: str) -> BinaryIO:
        """The cuts of a shard, once its tars have been read."""
        return self._tables.open(name)

    @contextmanager
    def recordings(self, names: Collection[str]) -> Iterator[Iterator[tuple[str, Path]]]:
        """(name, file) of tars of the Shar, in the archive's order. Each file exists until the next one."""
        wanted = {self._places[name] for name in names}
        largest = max(self._members[position].size for position in wanted)
        require_space(self._path, self._scratch, largest, "holds tars, which are unpacked one at a time")
        missing, self._missing = self._missing, set()
        with self._open_data(wanted | missing) as passing, closing(self._passing(passing, missing)) as files:
            yield files

    def _passing(self, passing: Iterator[tuple[int, MemberData]], tables: Collection[int]) -> Generator[tuple[str, Path]]:
        for position, data in passing:
            name = self._members[position].name
            if position in tables:
                self._tables.keep(name, data)
                continue
            with tempfile.NamedTemporaryFile(dir=self._scratch) as copy:
                data.copy_to(cast("BinaryIO", copy))
                copy.flush()
                yield name, Path(copy.name)

    @contextmanager
    def telling(self, name: str, file: Path) -> Iterator[None]:
        """Errors name the member rather than the file."""
        try:
            yield
        except UsageError as error:
            raise UsageError(str(error).replace(str(file), f"{self._path}: {name}")) from None
