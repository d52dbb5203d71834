"""lhotse's Shar: shards of `cuts.000000.jsonl.gz` beside `recording.000000.tar`, with the audio of each cut under its id."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from audio_tokenizers.errors import InfrastructureError
from hpc.tar_list import natural_order
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.tar_reader import AUDIO_IN_MEMORY
from tools.packing.archives.listing import ArchiveMember, MemberData, open_nameless
from tools.packing.archives.safety import refuse_names
from tools.packing.archives.tar_archive import list_tar, open_tar
from tools.packing.folder import read_trouble
from tools.packing.layouts.lhotse import plain_supervision, said_of_supervisions
from tools.packing.layouts.table_lines import TableDecoder, json_lines
from tools.packing.layouts.tables import Annotated
from tools.packing.pairs import Item, LeftOut, Pair, SourceOptions, is_excluded, is_outside

__all__ = ["SharSource", "Shard", "ShardFiles", "open_shar", "shar_shards"]

CUTS = re.compile(r"cuts\.(?P<number>[0-9]+)\.jsonl(\.gz)?")
FIELD = re.compile(r"(?P<field>[^/.]+)\.(?P<number>[0-9]+)\.tar(\.gz)?")
RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard, by the names of its files."""

    cuts: str
    recordings: str
    others: tuple[str, ...]
    """Tars of other fields, such as features."""


def shar_shards(names: Iterable[str]) -> list[Shard]:
    """The shards among files, given by relative paths, in natural order; none if there is no Shar."""
    cuts: dict[tuple[str, str], str] = {}
    fields: dict[tuple[str, str], dict[str, str]] = {}
    for name in sorted(names):
        folder, _, base = name.rpartition("/")
        if found := CUTS.fullmatch(base):
            cuts.setdefault((folder, found["number"]), name)
        elif found := FIELD.fullmatch(base):
            fields.setdefault((folder, found["number"]), {}).setdefault(found["field"], name)
    shards = []
    for key, name in cuts.items():
        others = fields.get(key, {})
        if RECORDING in others:
            rest = tuple(other for field, other in others.items() if field != RECORDING)
            shards.append(Shard(name, others[RECORDING], rest))
    return sorted(shards, key=lambda shard: natural_order(shard.cuts))


class ShardFiles(Protocol):
    """Access to the files of a Shar."""

    def open_table(self, name: str) -> BinaryIO:
        """Open the cuts of a shard. Only after the first reading of `recordings`."""

    def recordings(self, names: Collection[str]) -> AbstractContextManager[Iterator[tuple[str, Path]]]:
        """(name, file) of these tars, in the order of the shards. A file may exist only until the next one."""

    def telling(self, name: str, file: Path) -> AbstractContextManager[None]:
        """Within this block, errors name the tar as the user knows it."""


class _Folder:
    """A Shar that lies in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open_table(self, name: str) -> BinaryIO:
        try:
            return (self._root / name).open("rb")
        except OSError as error:
            raise read_trouble(self._root / name, error) from error

    def recordings(self, names: Collection[str]) -> AbstractContextManager[Iterator[tuple[str, Path]]]:
        return nullcontext((name, self._root / name) for name in names)

    def telling(self, name: str, file: Path) -> AbstractContextManager[None]:
        del name, file
        return nullcontext()


def open_shar(root: Path, shards: Sequence[Shard], options: SourceOptions) -> SharSource:
    """A Shar in a folder."""
    return SharSource(root.name or "data", _Folder(root), shards, options)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A listed shard."""

    shard: Shard
    members: Sequence[ArchiveMember]
    clips: Sequence[tuple[int, str]]
    """(position of its audio in the tar, id of its cut)"""


class SharSource:
    """The cuts of all shards that have audio and text, in the order of the shards and of their tars.

    Like all tars, each is read twice: once for its list, with a checksum of every member, and once for its data.
    """

    def __init__(self, name: str, files: ShardFiles, shards: Sequence[Shard], options: SourceOptions) -> None:
        self.name = name
        self._files = files
        self._options = options
        self._decoder = TableDecoder(files.open_table, [shard.cuts for shard in shards], options.texts.encoding)
        self.found: Counter[str] = Counter({"shards": len(shards)})
        self.items_total = self.bytes_total = 0
        left_out: list[LeftOut] = []
        digest = hashlib.sha256(b"shar 1\n")
        self._listed: list[_Listed] = []
        seen: set[str] = set()
        listed = self._list_recordings(shards)
        for shard in shards:
            left_out += [LeftOut("excluded", other, "of a Shar only its recordings are packed") for other in shard.others]
            cuts, faults = self._cuts(shard)
            left_out += faults
            members = listed.pop(shard.recordings)
            clips, missing = self._match(shard, cuts, members, seen)
            left_out += missing
            self._listed.append(_Listed(shard, members, clips))
            self.items_total += len(clips)
            self.bytes_total += sum(members[position].size for position, _ in clips)
            digest.update(repr([shard, members, sorted(cuts.items())]).encode("utf-8", "backslashreplace"))
        self.left_out: Sequence[LeftOut] = left_out
        self.fingerprint = digest.hexdigest()

    def _list_recordings(self, shards: Sequence[Shard]) -> dict[str, Sequence[ArchiveMember]]:
        listed: dict[str, Sequence[ArchiveMember]] = {}
        with self._files.recordings([shard.recordings for shard in shards]) as passing:
            for name, file in passing:
                with self._files.telling(name, file):
                    try:
                        listed[name], _ = list_tar(file)
                    except OSError as error:
                        raise read_trouble(file, error) from error
                    refuse_names(file, (member.name for member in listed[name]))
        return listed

    def _cuts(self, shard: Shard) -> tuple[dict[str, Annotated], list[LeftOut]]:
        """The annotations of one shard's cuts, by id."""
        cuts: dict[str, Annotated] = {}
        left_out: list[LeftOut] = []
        for number, record in json_lines(shard.cuts, self._files.open_table, self._decoder):
            where = f"line {number} of {shard.cuts}"
            if isinstance(record, str) or not isinstance(record.get("id"), str):
                what = record if isinstance(record, str) else "expected a cut with an `id`"
                left_out.append(LeftOut("unreadable_text", where, what))
            elif record["id"] in cuts:
                left_out.append(LeftOut("duplicate", record["id"], f"{where}: an earlier cut with this id is taken"))
            else:
                supervisions = record.get("supervisions")
                listed = [plain_supervision(one) for one in supervisions] if isinstance(supervisions, list) else []
                cuts[record["id"]] = said_of_supervisions(record["id"], listed, record.get("duration"))
        return cuts, left_out

    def _match(
        self, shard: Shard, cuts: dict[str, Annotated], members: Sequence[ArchiveMember], seen: set[str]
    ) -> tuple[list[tuple[int, str]], list[LeftOut]]:
        """The clips of a shard, and what is left out."""
        left_out: list[LeftOut] = []
        clips: list[tuple[int, str]] = []
        with_audio: set[str] = set()
        for position, member in enumerate(members):
            cut, _, extension = member.name.rpartition(".")
            if member.kind != "file" or extension.lower() not in AUDIO_EXTENSIONS:
                continue
            with_audio.add(cut)
            clip = self._clip(shard, cut)
            if reason := self._reason(clip, cuts.get(cut), seen, shard):
                left_out.append(reason)
            else:
                seen.add(clip)
                clips.append((position, cut))
        alone = cuts.keys() - with_audio
        left_out += [LeftOut("text_without_audio", self._clip(shard, cut), f"not in {shard.recordings}") for cut in alone]
        return clips, sorted(left_out, key=lambda left: left.name)

    def _clip(self, shard: Shard, cut: str) -> str:
        folder = shard.cuts.rpartition("/")[0]
        return f"{folder}/{cut}" if folder else cut

    def _reason(self, clip: str, said: Annotated | None, seen: set[str], shard: Shard) -> LeftOut | None:
        if self._options.exclude and is_excluded(clip, self._options.exclude):
            return LeftOut("excluded", clip)
        if is_outside(clip, self._options):
            return LeftOut("outside_subset", clip)
        if clip in seen:
            return LeftOut("duplicate", clip, f"{shard.recordings}: an earlier cut with this id is taken")
        if self._options.without_text or (said is not None and not said.says_nothing):
            return None
        return LeftOut("audio_without_text" if said is None else "empty_text", clip, f"in {shard.cuts}")

    def items(self, start: int) -> Iterator[Item]:
        """The items from number `start` on; see `Source.items`."""
        wanted: dict[str, tuple[_Listed, dict[int, str]]] = {}
        for listed in self._listed:
            if clips := dict(listed.clips[start:]):
                wanted[listed.shard.recordings] = listed, clips
            start = max(0, start - len(listed.clips))
        if not wanted:
            return
        try:
            with self._files.recordings(wanted) as passing:
                for name, file in passing:
                    with self._files.telling(name, file):
                        yield from self._items(file, *wanted[name])
        except OSError as error:
            raise InfrastructureError(
                f"{error.filename or self.name}: {error.strerror or error}; run the same command again when that is fixed"
            ) from error

    def _items(self, file: Path, listed: _Listed, clips: dict[int, str]) -> Iterator[Item]:
        cuts, _ = self._cuts(listed.shard)
        with open_tar(file, listed.members, clips.keys()) as passing:
            for position, data in passing:
                said = cuts.get(clips[position], Annotated())
                yield partial(self._pair, self._clip(listed.shard, clips[position]), data.member, self._audio(data), said)

    def _audio(self, data: MemberData) -> bytes | Path:
        """The audio of a clip. Large audio goes to a file that is opened when its item is read."""
        if data.member.size <= AUDIO_IN_MEMORY:
            return data.read_all()
        number, path = tempfile.mkstemp(dir=self._options.scratch)
        with open(number, "wb") as file:  # noqa: PTH123 (a number)
            data.copy_to(file)
        return Path(path)

    def _pair(self, clip: str, member: ArchiveMember, audio: bytes | Path, said: Annotated) -> Pair:
        return Pair(
            id=clip,
            audio_name=f"{clip}.{member.name.rpartition('.')[2]}",
            audio=audio if isinstance(audio, bytes) else open_nameless(audio),
            size=member.size,
            text=said.text,
            language=said.language,
            metadata=said.metadata,
        )
