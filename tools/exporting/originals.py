"""The audio members of a committed file's tar, beside its records: record i is clip i."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import IO, cast

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.words import counted
from jobs.remote_tar import RemoteError
from jobs.tar_format import TarDamage
from jobs.tar_reader import Clip, TarReader
from jobs.tar_source import bytes_of, tar_source
from tools.run_files import CommittedFile

__all__ = ["Originals"]


class Originals:
    """Reads the tar in one pass, as far as it is asked to."""

    def __init__(self, file: CommittedFile, extensions: Sequence[str]) -> None:
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
        self._reader = self._opened(extensions)
        self._clips = cast("Generator[Clip]", iter(self._reader))

    def _opened(self, extensions: Sequence[str]) -> TarReader:
        try:
            # A committed file vouches for its tar: whether it had its end blocks was judged then.
            return TarReader(self._tar, extensions, allow_missing_end=True)
        except TarDamage as error:
            raise self._changed(str(error)) from None

    def audio(self, index: int, name: str) -> IO[bytes]:
        """The bytes of clip `index`, counted from 0 and above the one before, at position 0; whoever takes it closes it.

        Raises UsageError if it is not called `name`.
        """
        while (clip := self._next()) is not None and clip.index < index:
            if clip.audio is not None:
                clip.audio.close()
        if clip is None or clip.audio is None or clip.name != name:
            if clip is not None and clip.audio is not None:
                clip.audio.close()
            raise self._changed(f"expected {name} as clip {index}, found {'no more' if clip is None else clip.name}")
        return clip.audio

    def finish(self) -> None:
        """Read the rest. Raises UsageError if the tar has not the clips that the file has records of."""
        while (clip := self._next()) is not None:
            if clip.audio is not None:
                clip.audio.close()
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
        """Let the tar go, and the clips that nobody has taken."""
        self._clips.close()
        self._reader.__exit__(None, None, None)
