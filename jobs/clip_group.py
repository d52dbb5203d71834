"""Pure: the clips of a tar, and the groups of adjacent members with one key that their sidecars come from."""

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
    """The member's name, plus `#` and the part's name for a part; bytes that are not UTF-8 as \\xNN."""
    audio: IO[bytes] | None
    """The member's bytes, at position 0. None for a part, a clip that the caller asked to skip, and one with a fault."""
    fault: ClipError | None = None
    """Why a clip that was not skipped has no bytes, or cannot be cut from its member."""
    annotations: Annotations = field(default_factory=Annotations)
    part: Part | None = None
    """The part of the member, unless the clip is a whole member."""
    number: int = 0
    """Position among the member's parts, from 0."""
    outside: bool = False
    """It is not in the run's share of the clips: it has no index, and only its sidecars count as used."""

    @property
    def member_audio(self) -> IO[bytes] | None:
        """The bytes of its member, whole clip or part; a decoder may be reading them."""
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
    """Bytes of its audio held in memory."""
    archive: int = 0
    """Index, from 0, of its archive among concatenated tars."""

    def sidecars_of(
        self, suffix: str, extensions: Sequence[str] = SIDECAR_EXTENSIONS, *, whole_names: bool = False
    ) -> dict[str, tuple[str, bytes | str]]:
        """Extension -> sidecar. `1.5_a.wav` prefers `1.5_a.txt` to `1.txt`, but `1.mic2.wav` may share `1.txt`.

        `whole_names`: `1.wav` prefers `1.wav.txt` to all others.
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
        """Assign `talk.en.vtt` to `talk.m4a` if it is the only one: among several the spoken language is unknown."""
        if extension in SIDECAR_EXTENSIONS:
            return
        others = [suffix for suffix in self.sidecars if suffix.endswith(f".{extension}")]
        if len(others) == 1 and not stem:
            found[extension] = self.sidecars[others[0]]
            self.used.add(others[0])

    def has_room(self, size: int) -> bool:
        """Whether a sidecar of `size` bytes fits: the limit for one is also the limit for all together."""
        return size > LARGEST_SIDECAR or self.sidecar_bytes + size <= LARGEST_SIDECAR  # a single oversized one is not read

    def is_full_for(self, stem: str, size: int) -> bool:
        """Whether clips must be yielded to make room for a sidecar of another clip."""
        return not self.has_room(size) and bool(self.clips) and stem_of(self.clips[0][0]) != stem

    def rest(self) -> ClipGroup:
        """The continuation of the group after this part: the same key, and the sidecars that its clips share."""
        shared = {suffix: sidecar for suffix, sidecar in self.sidecars.items() if "." not in suffix}
        return ClipGroup(
            self.key, [], shared, _size_of(shared), self.used & shared.keys(), self.suffixes, archive=self.archive
        )

    def split(self, stem: str) -> ClipGroup:
        """The same, but trailing clips with `stem` move to the continuation, with their own sidecars."""
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
