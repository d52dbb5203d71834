"""libsndfile through soundfile: the first choice for every format that it knows."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from io import BytesIO
from typing import IO

import numpy as np
import soundfile

from jobs.channels import Block
from jobs.refusals import WatchedFile, require_memory

__all__ = ["ABOUT_THE_FILE", "Sound", "opened_sound", "reading_aside"]

UNKNOWN_FRAMES = 1 << 62
"""libsndfile's frame count for a streamed FLAC, which it cannot read in blocks."""
ABOUT_THE_FILE = (1, 3, 4)
"""libsndfile's error codes for an unknown format, a malformed file and an unknown encoding."""


class Sound:
    """A file that libsndfile has opened."""

    def __init__(self, sound: soundfile.SoundFile, watched: WatchedFile) -> None:
        self._sound = sound
        self._watched = watched
        self.rate: int = sound.samplerate
        """Hz."""
        self.promised: int | None = sound.frames if sound.frames < UNKNOWN_FRAMES else None
        """Samples that libsndfile expects; None if it does not know."""
        self.read = 0
        """Samples read so far."""
        self.error = ""
        """The error that ended reading early."""

    @property
    def format(self) -> str:
        """The format as libsndfile names it, such as `FLAC` or `MP3`."""
        found: str = self._sound.format
        return found

    def rewind(self) -> None:
        """Seek to the true beginning, which libsndfile finds only by seeking. Without it, an Opus stream whose granule
        positions begin late, as FFmpeg's do, begins with the decoder's pre-roll and lacks as much at its end.
        """
        try:
            self._sound.seek(0)
        except soundfile.LibsndfileError as error:
            self.error = error.error_string
        finally:
            self._watched.check()

    def blocks(self, block_frames: int, most_samples: int) -> Iterator[tuple[Block, int]]:
        """Blocks of float32 [samples, channels], and the rate; at least one block, possibly empty.

        A block has up to `block_frames` samples, and up to `most_samples` over all channels: a header may state 1024.

        Ends after `promised` samples, or where libsndfile can go no further, as `error` or `read` shows.
        """
        promised = self.promised or 0
        channels = self._sound.channels
        longest = min(block_frames, max(most_samples // channels, 1))
        while True:
            size = min(longest, promised - self.read)
            buffer = np.empty((size, channels), np.float32)
            try:
                block = self._sound.read(out=buffer)
            except soundfile.LibsndfileError as error:
                self.error = error.error_string
                return
            finally:
                self._watched.check()
            self.read += len(block)
            yield block, self.rate
            if len(block) < size or self.read >= promised:
                return


@contextlib.contextmanager
def opened_sound(file: IO[bytes]) -> Iterator[Sound | str]:
    """The file opened by libsndfile, from its beginning, or libsndfile's error message."""
    descriptor = _descriptor(file)
    watched = WatchedFile(file)
    # Reads of a BytesIO cannot fail (those of a subclass might), and libsndfile asks for the position 100 times per FLAC.
    direct = file if type(file) is BytesIO else watched
    try:
        try:
            sound = _open(direct if descriptor is None else descriptor, watched)
        except (soundfile.LibsndfileError, TypeError, ValueError) as error:
            yield getattr(error, "error_string", str(error))
            return
        with sound:
            yield Sound(sound, watched)
    finally:
        if descriptor is not None:
            os.close(descriptor)
            file.seek(0, io.SEEK_END)  # the position may be shared: discard what `file` has read ahead


@contextlib.contextmanager
def reading_aside(file: IO[bytes]) -> Iterator[None]:
    """Read `file` within this block; afterwards libsndfile continues where it was, though both may share the position."""
    if isinstance(file, (io.BytesIO, io.RawIOBase)):
        place = file.tell()
        yield
        file.seek(place)
        return
    place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    yield
    file.seek(0, io.SEEK_END)
    os.lseek(file.fileno(), place, os.SEEK_SET)


def _open(source: IO[bytes] | WatchedFile | int, watched: WatchedFile) -> soundfile.SoundFile:
    """Open `source`, and try again unless it is certainly at fault: PyAV decodes a refused file, to samples that may differ
    in their last bits, and no transient error may decide that.
    """
    try:
        try:
            return soundfile.SoundFile(source, closefd=False)
        except soundfile.LibsndfileError as error:
            watched.check()
            if not isinstance(source, int) and error.code in ABOUT_THE_FILE:
                raise
        require_memory()
        if isinstance(source, int):
            os.lseek(source, 0, os.SEEK_SET)
        else:
            source.seek(0)
        return soundfile.SoundFile(source, closefd=False)
    finally:
        watched.check()


def _descriptor(file: IO[bytes]) -> int | None:
    """A descriptor that libsndfile can read without a Python callback per read; None where that is slower.

    For real files, and for MP3 in memory: libsndfile reads it in pieces so small that copying it first is 1.3 times as fast.
    """
    file.seek(0)
    if isinstance(file, io.RawIOBase):
        return None
    if not isinstance(file, io.BytesIO):
        descriptor = os.dup(file.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)  # `file` has read ahead, and libsndfile begins at the descriptor's position
        return descriptor
    head = file.read(3)
    file.seek(0)
    looks_like_mp3 = head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if not looks_like_mp3 or not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("mp3")
    try:
        with file.getbuffer() as view:
            written = 0
            while written < len(view):
                with view[written:] as rest:
                    written += os.write(descriptor, rest)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NOATIME)  # else each of hundreds of reads updates the access time
    except BaseException:
        os.close(descriptor)
        raise
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
