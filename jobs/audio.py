"""Bytes -> mono float32 at the backend's rate, in blocks; and fragments of it.

Everything here is a generator over blocks, so that a clip of ten hours needs no more memory than one of ten seconds.
Resampling in blocks gives the same samples, bit for bit, as in one piece (soxr; a test guards it).
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import soundfile
import soxr

from audio_tokenizers.base import MonoRule, Waveform
from audio_tokenizers.errors import ClipError

__all__ = ["Fragment", "FragmentCutter", "decode", "resample"]

BLOCK_FRAMES = 1 << 18
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
UNKNOWN_FRAMES = 1 << 62
STREAMED_SIZES = (0, 0x7FFFF000)
"""A WAV written to a pipe states 0, or at least 0x7FFFF000, as its size; its data go on to the end of the file."""


def decode(file: IO[bytes], *, mono: MonoRule, max_seconds: float | None = None) -> Iterator[tuple[Waveform, int]]:
    """Decode to mono blocks: (float32 [samples], sample rate in Hz), the last one shorter than BLOCK_FRAMES or empty.

    soundfile decodes what it knows, PyAV the rest (m4a, webm, odd codecs). Raises ClipError: `empty` (no samples),
    `decode` (unreadable, or fewer samples than its header promises), `not_finite`, `too_long` (over `max_seconds`).
    """
    if file.seek(0, io.SEEK_END) == 0:
        raise ClipError("empty", "the file is empty (0 bytes)")
    file.seek(0)
    _refuse_cut_wav(file)
    frames = 0
    for block, rate in _open(file):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ClipError("decode", f"a sample rate of {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE}")
        frames += len(block)
        if max_seconds is not None and frames > max_seconds * rate:
            raise ClipError("too_long", f"longer than {max_seconds:g} s")
        wave = _to_mono(block, mono)
        # A finite sum of squares proves all samples finite; an infinite one may only be large.
        if not np.isfinite(np.dot(wave, wave)) and not np.isfinite(wave).all():
            raise ClipError("not_finite", "samples are NaN or infinite")
        yield wave, rate
    if frames == 0:
        raise ClipError("empty", "the file has no samples")


def _to_mono(block: np.ndarray[Any, np.dtype[np.float32]], mono: MonoRule) -> Waveform:
    """float32 [samples, channels] -> [samples]; the mean is a sum in channel order, as librosa's to_mono computes it."""
    wave: Waveform = np.ascontiguousarray(block[:, 0])
    if mono == "mean" and block.shape[1] > 1:
        wave = wave.copy()
        for channel in range(1, block.shape[1]):
            wave += block[:, channel]
        wave /= block.shape[1]
    return wave


def _open(file: IO[bytes]) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    """Blocks of float32 [samples, channels], with the sample rate."""
    descriptor = _descriptor(file)
    try:
        sound = soundfile.SoundFile(file if descriptor is None else descriptor, closefd=False)
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        file.seek(0)
        yield from _open_with_pyav(file, getattr(error, "error_string", str(error)))
        return
    else:
        with sound:
            yield from _read_soundfile(sound)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _descriptor(file: IO[bytes]) -> int | None:
    """A descriptor of the bytes that libsndfile can read without a Python callback per read; None if that is slower.

    It is for a real file; and for MP3, which libsndfile reads in pieces so small that a copy is 1.3 times as fast.
    """
    if not isinstance(file, io.BytesIO):
        return os.dup(file.fileno())
    head = file.read(3)
    file.seek(0)
    looks_like_mp3 = head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if not looks_like_mp3 or not hasattr(os, "memfd_create"):
        return None
    view = file.getbuffer()
    descriptor = os.memfd_create("mp3")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written:])
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_soundfile(sound: soundfile.SoundFile) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    promised = sound.frames
    size = BLOCK_FRAMES if promised >= UNKNOWN_FRAMES else min(BLOCK_FRAMES, promised + 1)
    frames = 0
    while True:
        buffer = np.empty((size, sound.channels), np.float32)
        try:
            block = sound.read(out=buffer)
        except soundfile.LibsndfileError as error:
            raise ClipError("decode", f"damaged after sample {frames}: {error.error_string}") from None
        frames += len(block)
        yield block, sound.samplerate
        if len(block) < size:
            break
    if frames < promised < UNKNOWN_FRAMES:
        raise ClipError("decode", f"cut short: its header promises {promised} samples, only {frames} could be decoded")


def _open_with_pyav(file: IO[bytes], refusal: str) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    import av

    try:
        with av.open(file, mode="r", options={"err_detect": "explode"}) as container:
            if not container.streams.audio:
                raise ClipError("decode", "a container without an audio stream")
            stream = container.streams.audio[0]
            rate, channels = stream.rate, stream.channels
            planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            for frame in container.decode(stream):
                if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
                    raise ClipError("decode", "the sample rate or the number of channels changes within the file")
                for piece in planar.resample(frame):
                    yield piece.to_ndarray().T.astype(np.float32, copy=False), rate
            for piece in planar.resample(None):
                yield piece.to_ndarray().T.astype(np.float32, copy=False), rate
    except av.error.MemoryError:
        raise MemoryError from None
    except (av.error.FFmpegError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise ClipError("decode", f"not decodable: soundfile: {refusal} PyAV: {found}") from None


def _refuse_cut_wav(file: IO[bytes]) -> None:
    """Libsndfile shortens a WAV whose data chunk ends early without a word; that is lost audio, so it is an error."""
    if file.read(4) == b"RIFF" and len(head := file.read(8)) == 8 and head[4:] == b"WAVE":
        end = file.seek(0, io.SEEK_END)
        position = 12
        while position + 8 <= end:
            file.seek(position)
            kind, size = struct.unpack("<4sI", file.read(8))
            position += 8
            if kind == b"data":
                if position + size > end and STREAMED_SIZES[0] < size < STREAMED_SIZES[1]:
                    message = f"cut short: its header promises {size} bytes of samples, the file has {end - position}"
                    raise ClipError("decode", message)
                break
            position += size + size % 2
    file.seek(0)


def resample(blocks: Iterator[tuple[Waveform, int]], sample_rate: int) -> Iterator[Waveform]:
    """Blocks at one rate -> blocks at `sample_rate`, with soxr's HQ filter."""
    first, rate = next(blocks)
    if rate == sample_rate:
        yield first
        for wave, _ in blocks:
            yield wave
        return
    second = next(blocks, None)
    if second is None:
        yield soxr.resample(first, rate, sample_rate, "HQ")
        return
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    yield stream.resample_chunk(first)
    yield stream.resample_chunk(second[0])
    for wave, _ in blocks:
        yield stream.resample_chunk(wave)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


@dataclass(frozen=True, slots=True)
class Fragment:
    """A window of a clip, and how many of its frames belong to its neighbours."""

    wave: Waveform
    drop_head: int
    drop_tail: int


class FragmentCutter:
    """Cuts a clip into windows of `length` frames that overlap by `overlap` frames on each inner side.

    Windows advance by length - 2 * overlap frames and each gives up `overlap` frames on its inner sides, so every frame
    comes from one window: the scheme of andreaskoepf/audio_tokenization's encode_piecewise. A remainder that would leave
    the last window shorter than `min_samples` stays with the window before it.
    """

    def __init__(self, length: int, overlap: int, hop_length: int, min_samples: int) -> None:
        self._window = length * hop_length
        self._overlap = overlap
        self._keep = 2 * overlap * hop_length
        """Samples of a window that the next one sees again."""
        self._beyond = max(1, min_samples - self._keep)
        """Samples there must be after a window for it not to be the last."""

    def cut(self, blocks: Iterator[Waveform]) -> Iterator[Fragment]:
        """Yield the fragments of one clip; the last one may be empty or too short for the backend."""
        held: list[Waveform] = []
        samples = 0
        head = 0
        for block in blocks:
            held.append(block)
            samples += len(block)
            if samples < self._window + self._beyond:
                continue
            wave = np.concatenate(held)
            while samples >= self._window + self._beyond:
                yield Fragment(wave[: self._window], head, self._overlap)
                wave = wave[self._window - self._keep :]
                samples = len(wave)
                head = self._overlap
            held = [wave]
        yield Fragment(held[0] if len(held) == 1 else np.concatenate(held), head, 0)
