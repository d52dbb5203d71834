"""The original audio of one clip, from its tar to a WAV file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import soundfile

from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted
from jobs.audio import decode_channels
from jobs.channels import Block
from jobs.clip_group import Clip
from jobs.losses import Losses
from jobs.remote_tar import RemoteError
from jobs.tar_format import TarDamage
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource, bytes_of
from tools.common.byte_progress import ByteProgress
from tools.common.part_audio import part_blocks, write_wav
from tools.common.rereading import Rereading
from tools.common.whole_files import replacing, require_file_place

__all__ = ["Original", "write_original"]

LONG_BYTES = 256 << 20
"""Tars of this size take long enough for a progress bar."""


@dataclass(frozen=True, slots=True)
class Original:
    """What was written."""

    sample_rate: int
    """Hz: the file's own."""
    channels: int
    samples: int
    untouched: bool
    """The file is a copy of the member, which is WAV."""


def write_original(
    tar: TarSource, index: int, name: str, output: Path, *, how: Rereading, tar_bytes: int | None
) -> Original:
    """Write clip `index` of a tar, which must be called `name`, to `output`, whole or not at all.

    A WAV member is copied. Other members, and clips that are parts of members, are decoded at their own rate with all
    channels. `how`: the run's way of reading the tar. Raises UsageError if the tar is gone, has no
    such clip, or no longer the `tar_bytes` that it had, or if the clip cannot be decoded.
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
        reader = how.open(tar, skip_clips=index)
        clip = _find(reader, tar, index, name, found)
    except TarDamage as error:
        raise UsageError(f"{tar}: cannot be read as far as {name}: {error}") from None
    except OSError as error:
        raise InfrastructureError(f"{tar}: cannot be read: {error.strerror}") from error
    with closing(clip):
        try:
            return _write(clip, output)
        except (ClipError, soundfile.LibsndfileError) as error:
            raise UsageError(f"{tar}: {name}: there is nothing to hear: {error}") from None


def _find(reader: TarReader, tar: TarSource, index: int, name: str, size: int) -> Clip:
    """The clip with its audio, which the caller closes."""
    changed = "the tar has changed since it was tokenized"
    progress, done = ByteProgress(f"looking for {name}", size), 0
    bar = progress.on_terminal() if size >= LONG_BYTES else nullcontext()
    with bar, reader:
        for clip in reader:
            progress(reader.bytes_consumed - done)
            done = reader.bytes_consumed
            if clip.index < index:
                continue
            if clip.name != name:
                clip.close()
                raise UsageError(f"{tar}: expected {name} as its clip {index}, found {clip.name}: {changed}")
            if clip.fault is not None:
                clip.close()
                raise UsageError(f"{tar}: {name}: there is nothing to hear: {clip.fault}")
            return clip
    raise UsageError(f"{tar}: expected {name} as its clip {index}, found fewer clips: {changed}")


def _write(clip: Clip, output: Path) -> Original:
    require_file_place(output)
    untouched = clip.audio is not None and _is_wav(clip.audio)
    with replacing(output) as private:
        if untouched and clip.audio is not None:
            with private.open("wb") as file:
                shutil.copyfileobj(clip.audio, file)
        else:
            write_wav(_blocks(clip), private)
        info = soundfile.info(private)
    return Original(info.samplerate, info.channels, info.frames, untouched)


def _is_wav(audio: IO[bytes]) -> bool:
    """Whether it is a WAV file that players support, whatever its name."""
    head = audio.read(12)
    audio.seek(0)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return False
    try:
        return bool(soundfile.info(audio).frames)  # none: written to a pipe; some players trust this header
    except soundfile.LibsndfileError:
        return False
    finally:
        audio.seek(0)


def _blocks(clip: Clip) -> Iterator[tuple[Block, int]]:
    """All audio, which is not empty. Raises ClipError."""
    if clip.part is None:
        assert clip.audio is not None, "looked for in _find"
        yield from decode_channels(clip.audio, losses=Losses())  # partial audio is fine
        return
    blocks = part_blocks(clip.part)
    first = next(blocks)
    if not len(first[0]):
        raise ClipError("empty", "the part has no samples")
    yield first
    yield from blocks
