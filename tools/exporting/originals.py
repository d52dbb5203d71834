"""The audio members of a committed file's tar, beside its records: record i is clip i."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, cast

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.words import counted
from jobs.tar_format import TarDamage
from jobs.tar_reader import Clip, TarReader
from tools.run_files import CommittedFile

__all__ = ["Originals"]


class Originals:
    """Reads the tar in one pass, as far as it is asked to."""

    def __init__(self, file: CommittedFile, extensions: Sequence[str], *, sniff: bool = False) -> None:
        """`extensions` and `sniff` are those of the run."""
        self._tar = Path(file.tar)
        self._expected = file.manifest.clips
        self._seen = 0
        try:
            found = self._tar.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                f"{self._tar}: there is no such tar any more: copy it back, or export without --with-audio"
            ) from None
        if found != file.manifest.input_bytes:
            raise self._changed(f"it had {counted(file.manifest.input_bytes, 'byte')}, and has {found:,} now")
        self._reader = self._opened(extensions, sniff=sniff, follow_links=file.manifest.linked_clips is not None)
        self._clips = cast("Generator[Clip]", iter(self._reader))

    def _opened(self, extensions: Sequence[str], *, sniff: bool, follow_links: bool) -> TarReader:
        try:
            # A committed file vouches for its tar: how it ends was judged then.
            return TarReader(
                self._tar,
                extensions,
                sniff=sniff,
                follow_links=follow_links,
                allow_missing_end=True,
                allow_joined=True,
            )
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
