"""Strict streaming tar reader -> clips: an audio member plus the sidecars of the same key beside it.

Keys are WebDataset's: a name up to the first dot after its last slash. Members with one key that stand together form a
group; a suffix that comes again begins a new one, so duplicate names are separate clips. Every audio member of a group is
a clip of its own.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO

from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.scratch import scratch_file, scratch_trouble
from jobs.sidecars import LARGEST_SIDECAR, SIDECAR_EXTENSIONS, Annotations, read_sidecars, too_large
from jobs.tar_format import ACCEPTABLE, Member, TarDamage, TarStream
from jobs.tar_source import TarSource

__all__ = ["Clip", "TarReader"]

AUDIO_IN_MEMORY = 8 << 20
"""A larger member goes through a temporary file, so that memory does not grow with a clip's length."""
CLIPS_IN_GROUP = 64
"""A larger group is given out in parts: in a folder of `spk.0001.wav`, `spk.0002.wav`, ... all have the key `spk`."""
SIDECARS_IN_GROUP = 1 << 17
"""Then it is over, whatever comes: a few megabytes of tar.gz hold millions of empty ones."""
COPY_BYTES = 1 << 20


@dataclass(slots=True)
class Clip:
    """One audio member with what stands beside it."""

    index: int
    """Position among the tar's clips, from 0."""
    name: str
    """The member's name; bytes that are not UTF-8 as \\xNN."""
    audio: IO[bytes] | None
    """The member's bytes, at position 0; None for a clip that the caller asked to skip, and for a sparse member."""
    sparse: bool
    annotations: Annotations = field(default_factory=Annotations)


@dataclass(slots=True)
class _Group:
    """Members with one key that stand together."""

    key: str
    clips: list[tuple[str, Clip]] = field(default_factory=list)
    """(suffix, clip), in tar order."""
    sidecars: dict[str, tuple[str, bytes | str]] = field(default_factory=dict)
    """suffix -> (member name, content, or why it was not read)"""
    sidecar_bytes: int = 0
    used: set[str] = field(default_factory=set)
    """Suffixes of the sidecars that a clip has had."""
    suffixes: set[str] = field(default_factory=set)
    last_stem: str = ""
    bytes_in_memory: int = 0
    """Of its audio."""

    def sidecars_of(self, suffix: str) -> dict[str, tuple[str, bytes | str]]:
        """Extension -> sidecar. `1.5_a.wav` has `1.5_a.txt` rather than `1.txt`, but `1.mic2.wav` may share `1.txt`."""
        stem = suffix.rpartition(".")[0]
        found: dict[str, tuple[str, bytes | str]] = {}
        for extension in SIDECAR_EXTENSIONS:
            for candidate in (f"{stem}.{extension}" if stem else extension, extension):
                if candidate in self.sidecars:
                    found[extension] = self.sidecars[candidate]
                    self.used.add(candidate)
                    break
        return found

    def has_room(self, size: int) -> bool:
        """Whether a sidecar of `size` bytes fits beside the others: together they may take what one may."""
        return size > LARGEST_SIDECAR or self.sidecar_bytes + size <= LARGEST_SIDECAR  # one that is too large is not read

    def is_full_for(self, stem: str, size: int) -> bool:
        """Whether clips are to be given out to make room for a sidecar of another one."""
        return not self.has_room(size) and bool(self.clips) and _stem(self.clips[0][0]) != stem

    def rest(self) -> _Group:
        """The group that goes on after this part: the same key, and the sidecars that its clips share."""
        shared = {suffix: sidecar for suffix, sidecar in self.sidecars.items() if "." not in suffix}
        return _Group(self.key, [], shared, _size(shared), self.used & shared.keys(), self.suffixes)

    def split(self, stem: str) -> _Group:
        """The same, but the clips of `stem` that stand last go on, too, with their own sidecars."""
        rest = self.rest()
        while self.clips and _stem(self.clips[-1][0]) == stem:
            rest.clips.insert(0, self.clips.pop())
        if rest.clips:
            for suffix in [suffix for suffix in self.sidecars if "." in suffix and _stem(suffix) == stem]:
                rest.sidecars[suffix] = self.sidecars.pop(suffix)
        rest.sidecar_bytes = _size(rest.sidecars)
        return rest

    def close(self) -> None:
        """Drop the clips that nobody has taken."""
        for _, clip in self.clips:
            if clip.audio is not None:
                clip.audio.close()


def _stem(suffix: str) -> str:
    return suffix.rpartition(".")[0]


def _size(sidecars: dict[str, tuple[str, bytes | str]]) -> int:
    return sum(len(content) for _, content in sidecars.values() if isinstance(content, bytes))


class TarReader:
    """Iterates over the clips of one tar, in one pass. Ends normally only if the tar ends properly; else TarDamage.

    At damage the group that was being read is not given out, since its sidecars may be missing: the verdict covers it.
    """

    def __init__(
        self,
        source: TarSource,
        extensions: Sequence[str] = AUDIO_EXTENSIONS,
        *,
        skip_clips: int = 0,
        allow_missing_end: bool = False,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_read` is called with each piece that the file system gives."""
        self._extensions = frozenset(extensions)
        self._skip_clips = skip_clips
        self._allow_missing_end = allow_missing_end
        self._stream = TarStream(source, on_read=on_read)
        self._next_index = 0
        self.ignored: Counter[str] = Counter()
        """Members that are no clips and no sidecars, by reason."""
        self.orphan_sidecars = 0
        self.sidecar_faults = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    @property
    def bytes_consumed(self) -> int:
        """Bytes of the file on disk that have been used, for progress."""
        return self._stream.bytes_consumed

    def __iter__(self) -> Iterator[Clip]:
        group = _Group("")
        try:
            for member in self._stream:
                place = self._place(member)
                if place is None:
                    continue
                name, key, suffix = place
                stem, _, extension = suffix.rpartition(".")
                if key != group.key or suffix in group.suffixes or len(group.sidecars) >= SIDECARS_IN_GROUP:
                    yield from self._give_out(group)
                    group = _Group(key)
                elif len(group.clips) >= CLIPS_IN_GROUP and stem != group.last_stem:
                    yield from self._give_out(group, last_part=False)
                    group = group.rest()
                elif extension not in self._extensions and group.is_full_for(stem, member.size):
                    rest = group.split(stem)
                    yield from self._give_out(group, last_part=False)
                    group = rest
                group.suffixes.add(suffix)
                group.last_stem = stem
                if extension in self._extensions:
                    group.clips.append((suffix, self._clip(name, member, group)))
                elif member.kind == "sparse":
                    self.ignored["sparse_sidecar"] += 1
                else:
                    group.sidecars[suffix] = (name, self._sidecar(member, group))
        except BaseException as error:
            acceptable = isinstance(error, TarDamage) and error.verdict in ACCEPTABLE
            if not (acceptable and self._allow_missing_end):
                group.close()
                raise
        yield from self._give_out(group)

    def _place(self, member: Member) -> tuple[str, str, str] | None:
        """(name, key, suffix in lower case) of an audio file or sidecar; None for anything else, which is counted."""
        if member.kind not in ("file", "sparse"):
            self.ignored[member.kind] += 1
            return None
        name = member.name.decode("utf-8", "backslashreplace")
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        suffix = suffix.lower()
        extension = suffix.rpartition(".")[2]
        if base.startswith("._"):
            self.ignored["appledouble"] += 1
        elif extension not in self._extensions and extension not in SIDECAR_EXTENSIONS:
            self.ignored["other"] += 1
        else:
            return name, folder + slash + stem, suffix
        return None

    def _sidecar(self, member: Member, group: _Group) -> bytes | str:
        """The content, or why it is not read."""
        if member.size > LARGEST_SIDECAR:
            return too_large()
        if not group.has_room(member.size):
            return f"with the other sidecars of its group {too_large()}"
        group.sidecar_bytes += member.size
        return self._stream.read(member.size)

    def _clip(self, name: str, member: Member, group: _Group) -> Clip:
        index = self._next_index
        self._next_index += 1
        sparse = member.kind == "sparse"
        wanted = index >= self._skip_clips and not sparse
        return Clip(index, name, self._audio(member.size, group) if wanted else None, sparse)

    def _audio(self, size: int, group: _Group) -> IO[bytes]:
        if group.bytes_in_memory + size <= AUDIO_IN_MEMORY:
            group.bytes_in_memory += size
            return io.BytesIO(self._stream.read(size))
        file = scratch_file()
        try:
            while piece := self._stream.read(COPY_BYTES):
                with scratch_trouble():
                    file.write(piece)
            with scratch_trouble():
                file.seek(0)
        except BaseException:
            with suppress(OSError):  # it tries once more to write what it holds
                file.close()
            raise
        return file

    def _give_out(self, group: _Group, *, last_part: bool = True) -> Iterator[Clip]:
        try:
            while group.clips:
                suffix, clip = group.clips[0]
                clip.annotations = read_sidecars(group.sidecars_of(suffix))
                self.sidecar_faults += clip.annotations.faults
                del group.clips[0]
                yield clip
        finally:
            group.close()
        orphans = group.sidecars.keys() - group.used
        self.orphan_sidecars += len(orphans if last_part else [suffix for suffix in orphans if "." in suffix])
