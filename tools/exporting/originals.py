"""The audio of a committed file's clips, from its tar: record i is clip i."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import PurePosixPath
from typing import IO, cast

from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted
from jobs.audio_magic import HEAD_BYTES, audio_kind
from jobs.clip_group import Clip
from jobs.recording import Part
from jobs.remote_tar import RemoteError
from jobs.scratch import scratch_file, scratch_trouble
from jobs.tar_format import TarDamage
from jobs.tar_source import bytes_of, tar_source
from tools.common.part_audio import part_blocks, write_wav
from tools.common.rereading import Rereading
from tools.common.run_files import CommittedFile

__all__ = ["Originals"]


class Originals:
    """Reads the tar in one pass, as far as requested."""

    def __init__(self, file: CommittedFile, how: Rereading) -> None:
        """`how`: the run's way of reading the tar."""
        self._how = how
        self._tar = tar_source(file.tar)
        self._expected = file.manifest.clips
        self._seen = 0
        try:
            found = bytes_of(self._tar)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                f"{self._tar}: there is no such tar any more: copy it back, or export without --with-audio"
            ) from None
        except RemoteError as error:
            raise InfrastructureError(f"{self._tar}: cannot be read: {error}; run the same command again") from error
        if found != file.manifest.input_bytes:
            raise self._changed(f"it had {counted(file.manifest.input_bytes, 'byte')}, and has {found:,} now")
        try:
            self._reader = how.open(self._tar)
        except TarDamage as error:
            raise self._changed(str(error)) from None
        self._clips = cast("Generator[Clip]", iter(self._reader))

    def audio(self, index: int, name: str) -> tuple[IO[bytes], str]:
        """The bytes of clip `index`, counted from 0 and above the one before, at position 0, and the extension for them:
        the member's, or WAV of the part that the clip is of it. The caller closes the file.

        Raises UsageError if it is not called `name`, or is a part that cannot be decoded any more.
        """
        while (clip := self._next()) is not None and clip.index < index:
            clip.close()
        if clip is None or (clip.audio is None and clip.part is None) or clip.name != name:
            if clip is not None:
                clip.close()
            raise self._changed(f"expected {name} as clip {index}, found {'no more' if clip is None else clip.name}")
        if clip.part is not None:
            return self._wav(clip.part, name), "wav"
        assert clip.audio is not None
        return clip.audio, self._extension(name, clip.audio)

    def _extension(self, name: str, audio: IO[bytes]) -> str:
        """The extension of a clip that was found by its first bytes (--sniff)."""
        extension = PurePosixPath(name).name.rpartition(".")[2].lower()
        if extension in self._how.extensions:
            return extension
        kind = audio_kind(audio.read(HEAD_BYTES))
        audio.seek(0)
        return kind or extension

    def _wav(self, part: Part, name: str) -> IO[bytes]:
        file = scratch_file()
        try:
            with closing(part), scratch_trouble():
                write_wav(part_blocks(part), file)
                file.seek(0)
        except ClipError as error:
            file.close()
            raise UsageError(f"{self._tar}: {name}: cannot be decoded now: {error}; export without --with-audio") from None
        except BaseException:
            file.close()
            raise
        return file

    def finish(self) -> None:
        """Read the rest. Raises UsageError if the tar's clips do not match the file's records."""
        while (clip := self._next()) is not None:
            clip.close()
        if self._seen != self._expected:
            raise self._changed(f"it had {counted(self._expected, 'clip')}, and has {self._seen:,} now")

    def _next(self) -> Clip | None:
        try:
            clip = next(self._clips, None)
        except TarDamage as error:
            raise self._changed(str(error)) from None
        except OSError as error:
            raise InfrastructureError(
                f"{self._tar}: cannot be read: {error.strerror}; run the same command again"
            ) from error
        self._seen += clip is not None
        return clip

    def _changed(self, how: str) -> UsageError:
        return UsageError(
            f"{self._tar}: it has changed since it was tokenized: {how}; give back the tar as it was, or export without "
            "--with-audio"
        )

    def close(self) -> None:
        """Close the tar, and clips that were not consumed."""
        self._clips.close()
        self._reader.__exit__(None, None, None)
