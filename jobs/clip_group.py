"""Pure: clips of a tar, and the members with one key that stand together, from which their sidecars come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from audio_tokenizers.errors import ClipError
from jobs.sidecars import LARGEST_SIDECAR, SIDECAR_EXTENSIONS, Annotations

if TYPE_CHECKING:
    from jobs.recording import Part

__all__ = ["Clip", "ClipGroup", "stem_of"]


@dataclass(slots=True)
class Clip:
    """One audio member, or a part of one, with its annotations."""

    index: int
    """Position among the tar's clips, from 0."""
    name: str
    """The member's name, with `#` and that of the part; bytes that are not UTF-8 as \\xNN."""
    audio: IO[bytes] | None
    """The member's bytes, at position 0. None for a part, a clip that the caller asked to skip, and one with a fault."""
    fault: ClipError | None = None
    """Why a clip that was not skipped has no bytes, or cannot be cut from its member."""
    annotations: Annotations = field(default_factory=Annotations)
    part: Part | None = None
    """Of the member, where it is no clip as a whole."""
    number: int = 0
    """Position among the member's parts, from 0."""

    @property
    def member_audio(self) -> IO[bytes] | None:
        """The bytes of the member that it is or is a part of, which a decoder may be reading."""
        return self.audio if self.part is None else self.part.audio

    def close(self) -> None:
        """Release its audio."""
        for audio in (self.audio, self.part):
            if audio is not None:
                audio.close()


@dataclass(slots=True)
class ClipGroup:
    """Adjacent members with the same key."""

    key: str
    clips: list[tuple[str, Clip]] = field(default_factory=list)
    """(suffix, clip), in tar order."""
    sidecars: dict[str, tuple[str, bytes | str]] = field(default_factory=dict)
    """suffix -> (member name, content, or why it was not read)"""
    sidecar_bytes: int = 0
    used: set[str] = field(default_factory=set)
    """Suffixes of the sidecars that clips have used."""
    suffixes: set[str] = field(default_factory=set)
    last_stem: str = ""
    bytes_in_memory: int = 0
    """Of its audio."""
    archive: int = 0
    """Number of the tar among several that were put end to end, from 0."""

    def sidecars_of(
        self, suffix: str, extensions: Sequence[str] = SIDECAR_EXTENSIONS, *, whole_names: bool = False
    ) -> dict[str, tuple[str, bytes | str]]:
        """Extension -> sidecar. `1.5_a.wav` has `1.5_a.txt` rather than `1.txt`, but `1.mic2.wav` may share `1.txt`.

        `whole_names`: `1.wav.txt` is `1.wav`'s before all others.
        """
        stem = suffix.rpartition(".")[0]
        found: dict[str, tuple[str, bytes | str]] = {}
        for extension in extensions:
            whole = (f"{suffix}.{extension}",) if whole_names else ()
            for candidate in (*whole, f"{stem}.{extension}" if stem else extension, extension):
                if candidate in self.sidecars:
                    found[extension] = self.sidecars[candidate]
                    self.used.add(candidate)
                    break
            else:
                self._add_in_language(found, stem, extension)
        return found

    def _add_in_language(self, found: dict[str, tuple[str, bytes | str]], stem: str, extension: str) -> None:
        """`talk.en.vtt` belongs to `talk.m4a` unless there are others: the spoken language is unknown then."""
        if extension in SIDECAR_EXTENSIONS:
            return
        others = [suffix for suffix in self.sidecars if suffix.endswith(f".{extension}")]
        if len(others) == 1 and not stem:
            found[extension] = self.sidecars[others[0]]
            self.used.add(others[0])

    def has_room(self, size: int) -> bool:
        """Whether a sidecar of `size` bytes fits: together they may be as large as one may be."""
        return size > LARGEST_SIDECAR or self.sidecar_bytes + size <= LARGEST_SIDECAR  # one that is too large is not read

    def is_full_for(self, stem: str, size: int) -> bool:
        """Whether clips must be given out to make room for a sidecar of another clip."""
        return not self.has_room(size) and bool(self.clips) and stem_of(self.clips[0][0]) != stem

    def rest(self) -> ClipGroup:
        """The group that goes on after this part: the same key, and the sidecars that its clips share."""
        shared = {suffix: sidecar for suffix, sidecar in self.sidecars.items() if "." not in suffix}
        return ClipGroup(
            self.key, [], shared, _size_of(shared), self.used & shared.keys(), self.suffixes, archive=self.archive
        )

    def split(self, stem: str) -> ClipGroup:
        """The same, but the clips of `stem` that stand last go on, too, with their own sidecars."""
        rest = self.rest()
        while self.clips and stem_of(self.clips[-1][0]) == stem:
            rest.clips.insert(0, self.clips.pop())
        if rest.clips:
            for suffix in [suffix for suffix in self.sidecars if "." in suffix and stem_of(suffix) == stem]:
                rest.sidecars[suffix] = self.sidecars.pop(suffix)
        rest.sidecar_bytes = _size_of(rest.sidecars)
        return rest

    def close(self) -> None:
        """Close the clips that were not taken."""
        for _, clip in self.clips:
            clip.close()


def stem_of(suffix: str) -> str:
    """`mic2` of the suffix `mic2.wav`; empty for `wav`."""
    return suffix.rpartition(".")[0]


def _size_of(sidecars: dict[str, tuple[str, bytes | str]]) -> int:
    return sum(len(content) for _, content in sidecars.values() if isinstance(content, bytes))
