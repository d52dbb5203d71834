"""Strict streaming tar reader -> clips: an audio member plus the sidecars of the same key beside it.

Keys are WebDataset's: a name up to the first dot after its last slash. Members with one key that stand together form a
group; a suffix that comes again begins a new one, so duplicate names are separate clips. Every audio member of a group is
a clip of its own.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.sidecars import SIDECAR_EXTENSIONS, Annotations, read_sidecars
from jobs.tar_format import Member, TarDamage, TarStream

__all__ = ["Clip", "TarReader"]

AUDIO_IN_MEMORY = 32 << 20
"""A larger member goes through a temporary file, so that memory does not grow with a clip's length."""
LARGEST_SIDECAR = 16 << 20
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
    sidecars: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """suffix -> (member name, content)"""

    def holds(self, suffix: str) -> bool:
        return suffix in self.sidecars or any(suffix == other for other, _ in self.clips)


class TarReader:
    """Iterates over the clips of one tar, in one pass. Ends normally only if the tar ends properly; else TarDamage.

    At damage the group that was being read is not given out, since its sidecars may be missing: the verdict covers it.
    """

    def __init__(
        self,
        path: Path,
        extensions: Sequence[str] = AUDIO_EXTENSIONS,
        *,
        skip_clips: int = 0,
        allow_missing_end: bool = False,
    ) -> None:
        self._extensions = frozenset(extensions)
        self._skip_clips = skip_clips
        self._allow_missing_end = allow_missing_end
        self._stream = TarStream(path)
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
                if member.kind not in ("file", "sparse"):
                    self.ignored[member.kind] += 1
                    continue
                name = member.name.decode("utf-8", "backslashreplace")
                folder, slash, base = name.rpartition("/")
                if base.startswith("._"):
                    self.ignored["appledouble"] += 1
                    continue
                stem, _, suffix = base.partition(".")
                suffix = suffix.lower()
                extension = suffix.rpartition(".")[2]
                if extension not in self._extensions and extension not in SIDECAR_EXTENSIONS:
                    self.ignored["other"] += 1
                    continue
                key = folder + slash + stem
                if key != group.key or group.holds(suffix):
                    yield from self._finish(group)
                    group = _Group(key)
                if extension in self._extensions:
                    group.clips.append((suffix, self._clip(name, member)))
                else:
                    group.sidecars[suffix] = (name, self._stream.read(min(member.size, LARGEST_SIDECAR + 1)))
        except TarDamage as damage:
            if damage.verdict != "no_end_marker" or not self._allow_missing_end:
                raise
        yield from self._finish(group)

    def _clip(self, name: str, member: Member) -> Clip:
        index = self._next_index
        self._next_index += 1
        sparse = member.kind == "sparse"
        wanted = index >= self._skip_clips and not sparse
        return Clip(index, name, self._audio(member.size) if wanted else None, sparse)

    def _audio(self, size: int) -> IO[bytes]:
        if size <= AUDIO_IN_MEMORY:
            return io.BytesIO(self._stream.read(size))
        file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever takes the clip closes it)
        while piece := self._stream.read(COPY_BYTES):
            file.write(piece)
        file.seek(0)
        return file

    def _finish(self, group: _Group) -> Iterator[Clip]:
        used: set[str] = set()
        for suffix, clip in group.clips:
            stem = suffix.rpartition(".")[0]
            files: dict[str, tuple[str, bytes]] = {}
            for extension in SIDECAR_EXTENSIONS:
                # `1.5_a.wav` has `1.5_a.txt` rather than `1.txt`, but `1.mic2.wav` may share `1.txt`.
                for candidate in (f"{stem}.{extension}" if stem else extension, extension):
                    if candidate in group.sidecars:
                        files[extension] = group.sidecars[candidate]
                        used.add(candidate)
                        break
            clip.annotations = read_sidecars(files) if files else Annotations()
            self.sidecar_faults += clip.annotations.faults
            yield clip
        self.orphan_sidecars += len(group.sidecars.keys() - used)
