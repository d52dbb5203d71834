"""The audio of one clip, as it stands in its tar, as a WAV file to listen to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import soundfile

from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.words import counted
from jobs.audio import decode_channels
from jobs.audio_headers import refuse_cut_file
from jobs.remote_tar import RemoteError
from jobs.tar_format import TarDamage
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource, bytes_of
from tools.byte_progress import ByteProgress
from tools.whole_files import replacing, require_file_place

__all__ = ["Original", "write_original"]

SUBTYPE = "PCM_24"
"""Exactly the samples of an original with up to 24 bits, and any player plays it."""
LONG_BYTES = 256 << 20
"""In a tar of this size the search may take so long that people want to see it."""


@dataclass(frozen=True, slots=True)
class Original:
    """What was written."""

    sample_rate: int
    """Hz: the file's own."""
    channels: int
    samples: int
    untouched: bool
    """The member is a WAV file, and this is a copy of it."""


def write_original(
    tar: TarSource, index: int, name: str, output: Path, *, extensions: Sequence[str], tar_bytes: int | None
) -> Original:
    """Write the clip numbered `index` of a tar, which has to be called `name`, to `output`, whole or not at all.

    A WAV member is copied; another one is decoded, at its own rate and with all its channels. Raises UsageError if the tar
    is gone, has no such clip, or no longer the `tar_bytes` that it had, or if the clip cannot be decoded.
    """
    try:
        found = bytes_of(tar)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{tar}: there is no such tar any more: copy it back to hear {name}") from None
    except RemoteError as error:
        raise InfrastructureError(f"{tar}: cannot be read: {error}") from error
    if tar_bytes not in (None, found):
        raise UsageError(
            f"{tar}: it had {counted(tar_bytes, 'byte')} when it was tokenized, and has {found:,} now: it is another tar"
        )
    try:
        audio = _find(tar, index, name, extensions, found)
    except TarDamage as error:
        raise UsageError(f"{tar}: cannot be read as far as {name}: {error}") from None
    except OSError as error:
        raise InfrastructureError(f"{tar}: cannot be read: {error.strerror}") from error
    with audio:
        try:
            return _write(audio, output)
        except (ClipError, soundfile.LibsndfileError) as error:
            raise UsageError(f"{tar}: {name}: there is nothing to hear: {error}") from None


def _find(tar: TarSource, index: int, name: str, extensions: Sequence[str], size: int) -> IO[bytes]:
    """The clip's audio; whoever takes it closes it."""
    changed = "the tar has changed since it was tokenized"
    progress, done = ByteProgress(f"looking for {name}", size), 0
    bar = progress.on_terminal() if size >= LONG_BYTES else nullcontext()
    with bar, TarReader(tar, extensions, skip_clips=index, allow_missing_end=True) as reader:
        for clip in reader:
            progress(reader.bytes_consumed - done)
            done = reader.bytes_consumed
            if clip.index < index:
                continue
            if clip.name != name:
                if clip.audio is not None:
                    clip.audio.close()
                raise UsageError(f"{tar}: expected {name} as its clip {index}, found {clip.name}: {changed}")
            if clip.audio is None:
                raise UsageError(f"{tar}: {name} is a sparse file, which is not read: pack it again without --sparse")
            return clip.audio
    raise UsageError(f"{tar}: expected {name} as its clip {index}, found fewer clips: {changed}")


def _write(audio: IO[bytes], output: Path) -> Original:
    require_file_place(output)
    untouched = _is_wav(audio)
    with replacing(output) as private:
        if untouched:
            with private.open("wb") as file:
                shutil.copyfileobj(audio, file)
        else:
            _decode(audio, private)
        info = soundfile.info(private)
    return Original(info.samplerate, info.channels, info.frames, untouched)


def _is_wav(audio: IO[bytes]) -> bool:
    """Whether it is a WAV file that players know, whatever its name says."""
    head = audio.read(12)
    audio.seek(0)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return False
    try:
        return bool(soundfile.info(audio).frames)  # none: it was written to a pipe, and some players believe its header
    except soundfile.LibsndfileError:
        return False
    finally:
        audio.seek(0)


def _decode(audio: IO[bytes], path: Path) -> None:
    if not audio.read(1):
        raise ClipError("empty", "the file is empty (0 bytes)")
    refuse_cut_file(audio)
    blocks = decode_channels(audio)
    first, rate = next(blocks, (None, 0))
    if first is None or not len(first):
        raise ClipError("empty", "the file has no samples")
    with soundfile.SoundFile(path, "w", rate, first.shape[1], SUBTYPE, format="WAV") as wav:
        wav.write(first)
        for block, _ in blocks:
            wav.write(block)
