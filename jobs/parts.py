"""An audio member -> its clips: its channels, the segments that its sidecars list, or both."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import soundfile

from audio_tokenizers.errors import ClipError
from jobs.channels import SPLIT, Mixer, channel_rule
from jobs.pyav_decoder import PYAV_OPTIONS
from jobs.recording import Cut, Part, Recording
from jobs.refusals import WatchedFile, require_memory
from jobs.segments import Segment, Segments, read_segments, with_lists_as_objects
from jobs.sidecars import LEGACY_READING, Annotations, Reading
from jobs.spec import LONGEST_CLIP_SECONDS, TokenizeSpec
from jobs.subtitles import SUBTITLE_EXTENSIONS

if TYPE_CHECKING:
    from jobs.clip_group import Clip

__all__ = ["Cutting", "FinishedMembers", "Piece", "count_channels", "mixer_for"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One clip of an audio member."""

    number: int
    """Position among the member's clips, from 0."""
    name: str
    annotations: Annotations
    part: Part | None = None
    """The clip's audio; None where it is not wanted, cannot be cut, or is the whole member."""
    fault: ClipError | None = None
    """Why it cannot be cut."""
    whole: bool = False
    """The clip is the whole member."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a run cuts audio members into clips."""

    channels: bool = False
    """Each channel is a clip."""
    segments: bool = False
    """Each segment is a clip."""
    most_seconds: float = LONGEST_CLIP_SECONDS
    """Limit up to which a recording is decoded."""
    max_damage: float = 0.0
    """Share of a clip that may be missing."""

    @classmethod
    def of(cls, spec: TokenizeSpec) -> Cutting | None:
        """The cutting of a run; None if each audio member is one clip."""
        found = cls(
            spec.channel_rule == SPLIT,
            spec.segments,
            max(LONGEST_CLIP_SECONDS, spec.longest_seconds),
            spec.max_damage,
        )
        return found if found.channels or found.segments else None

    @property
    def sidecars(self) -> tuple[str, ...]:
        """Extensions of the sidecars that only cutting needs."""
        return SUBTITLE_EXTENSIONS if self.segments else ()

    def readable(self, files: Mapping[str, tuple[str, bytes | str]]) -> Mapping[str, tuple[str, bytes | str]]:
        """A member's sidecars in the form that `pieces` reads."""
        return with_lists_as_objects(files) if self.segments else files

    def pieces(
        self,
        name: str,
        audio: IO[bytes] | None,
        said: Annotations,
        files: Mapping[str, tuple[str, bytes | str]],
        reading: Reading = LEGACY_READING,
        *,
        wanted_from: int = 0,
    ) -> Generator[Piece]:
        """The clips of the member `name`; those numbered `wanted_from` and later come with audio.

        `said` is what its sidecars say, `files` the sidecars themselves, `reading` how they are read. The audio is closed
        with the last part, unless the whole member is one clip. Without audio the number of channels is unknown and taken
        as 1.
        """
        segments = read_segments(said, files, reading) if self.segments else None
        if isinstance(segments, ClipError):
            if audio is not None:
                audio.close()
            yield Piece(0, name, said, fault=segments)
        elif segments is None and not self.channels:
            yield Piece(0, name, said, whole=True)
        else:
            yield from self._cut(name, audio, said, segments, wanted_from)

    def _cut(
        self, name: str, audio: IO[bytes] | None, said: Annotations, segments: Segments | None, wanted_from: int
    ) -> Generator[Piece]:
        channels = None
        if self.channels:
            channels = 1 if audio is None else _counted(audio)
        recording = None
        if audio is not None:
            recording = Recording(audio, channels=channels, max_seconds=self.most_seconds, max_damage=self.max_damage)
        number = 0
        try:
            for segment in (Segment("", said, 0.0, None, math.inf),) if segments is None else segments:
                stem = name if segments is None else f"{name}#{segment.name}"
                for channel in (None,) if channels is None else range(channels):
                    is_last = channel is None or channel + 1 == channels
                    needed_from = segment.later if is_last else min(segment.start, segment.later)
                    part = None
                    if recording is not None and segment.fault is None and number >= wanted_from:
                        part = recording.part(Cut(segment.start, segment.end, channel), needed_from)
                    full_name = stem if channel is None else f"{stem}#{channel}"
                    yield Piece(number, full_name, segment.annotations, part, segment.fault)
                    number += 1
        finally:
            if recording is not None:
                recording.release()


class FinishedMembers:
    """Finds the members that need not be read again, by the names of the clips that have lines."""

    def __init__(self, done: Sequence[str]) -> None:
        self._done = done
        self._at = 0

    def has(self, member: str) -> bool:
        """Whether all clips of the next member, named `member`, have lines. A few finished members are reported as
        unfinished: the last one, and those that follow one of the same name.
        """
        first, of_parts = self._at, f"{member}#"
        while self._at < len(self._done) and (self._done[self._at] == member or self._done[self._at].startswith(of_parts)):
            self._at += 1
        return first < self._at < len(self._done)


def mixer_for(clip: Clip, spec: TokenizeSpec) -> Mixer:
    """The mixer for a clip of this run; a clip that is one channel of its recording uses that channel alone."""
    channel = None if clip.part is None else clip.part.cut.channel
    return Mixer(spec.channel_rule if channel is None else channel_rule(str(channel)))


def count_channels(audio: IO[bytes]) -> int:
    """The number of channels that the header states, or 1 where none can be read. Leaves `audio` at position 0.

    Raises OSError and MemoryError where the machine is at fault.
    """
    for _ in range(2):
        watched = WatchedFile(audio)
        try:
            audio.seek(0)
            found = _with_soundfile(watched) or _with_pyav(watched)
        finally:
            audio.seek(0)
        watched.check()
        if found:
            return found
        require_memory()  # a channel not seen here is lost: no transient error may cause that
    return 1


def _counted(audio: IO[bytes]) -> int:
    try:
        return count_channels(audio)
    except BaseException:
        audio.close()
        raise


def _with_soundfile(file: WatchedFile) -> int:
    try:
        with soundfile.SoundFile(file) as sound:
            return int(sound.channels)
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return 0


def _with_pyav(file: WatchedFile) -> int:
    """The channels of the first decoded frame: an AAC header may state half as many."""
    import av

    file.seek(0)
    try:
        with av.open(file, mode="r", options=PYAV_OPTIONS) as container:
            for frame in container.decode(audio=0):
                return frame.layout.nb_channels
    except (av.error.FFmpegError, ValueError, LookupError, ArithmeticError):
        pass
    return 0
