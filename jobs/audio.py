"""Bytes -> blocks of mono float32 at the backend's rate -> fragments.

Everything here is a generator over blocks: a clip of ten hours needs no more memory than one of ten seconds. Resampling
block by block gives the same samples, bit for bit, as resampling the whole clip (soxr; a test guards it).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import soxr

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ClipError
from jobs.audio_routes import decode_parts
from jobs.channels import Block, Mixer
from jobs.decoded_blocks import Limits
from jobs.losses import Losses
from jobs.one_form import at_one_rate, with_as_many_channels
from jobs.refusals import confirmed

__all__ = ["Fragment", "FragmentCutter", "decode", "decode_channels", "resample"]

BLOCK_FRAMES = 1 << 18
MOST_BLOCK_SAMPLES = 8 * BLOCK_FRAMES
"""Limit over all channels together: a header may state up to 1024 channels."""
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000


def decode(
    file: IO[bytes], *, mono: str | Mixer, max_seconds: float | None = None, losses: Losses | None = None
) -> Iterator[tuple[Waveform, int]]:
    """Decode to mono blocks: (float32 [samples], sample rate in Hz), of bounded length, the last one shorter or empty.

    Yields all audio in the file, whatever its header says, as FFmpeg would play it; parts at another rate are resampled to
    the rate of the first. `mono` is one of `Mixer`'s rules, or a mixer, whose notes are complete after the last block. After
    the last block, `losses` records what is missing according to the file's own headers; without `losses`, missing audio
    raises ClipError there. soundfile decodes the formats it knows, PyAV the rest (m4a, webm, odd codecs, damage).

    Raises ClipError: `empty` (no samples), `decode` (unreadable), `too_long` (over `max_seconds`), and what `Mixer.mix`
    raises; OSError, MemoryError and InfrastructureError where the machine is at fault.
    """
    mixer = Mixer(mono) if isinstance(mono, str) else mono
    told = Losses()
    parts = ((mixer.mix(block), rate) for block, rate in _decode_parts(file, told))
    return _bounded(at_one_rate(parts), max_seconds, told, losses)


def decode_channels(
    file: IO[bytes], *, max_seconds: float | None = None, losses: Losses | None = None
) -> Iterator[tuple[Block, int]]:
    """Like `decode`, with all channels: blocks of float32 [samples, channels], with the sample rate in Hz.

    All blocks have the rate and the number of channels of the first; a part with another number of channels is mixed down,
    and its mean repeated in each channel. `losses.shifted` is set before a block whose place in the recording is unknown.
    """
    told = Losses()
    parts = with_as_many_channels(_decode_parts(file, told))
    return _bounded(at_one_rate(parts), max_seconds, told, losses)


def _bounded(
    blocks: Iterator[tuple[Block, int]], max_seconds: float | None, told: Losses, losses: Losses | None
) -> Iterator[tuple[Block, int]]:
    frames = 0
    for block, rate in blocks:
        frames += len(block)
        if max_seconds is not None and frames > max_seconds * rate:
            raise ClipError("too_long", f"longer than {max_seconds:g} s")
        if losses is not None:
            losses.shifted = losses.shifted or told.shifted
        yield block, rate
    _judge(frames, told, losses)


def _decode_parts(file: IO[bytes], losses: Losses) -> Iterator[tuple[Block, int]]:
    if file.seek(0, io.SEEK_END) == 0:
        raise ClipError("empty", "the file is empty (0 bytes)")
    limits = Limits(BLOCK_FRAMES, MOST_BLOCK_SAMPLES)
    for block, rate in confirmed(lambda file, losses: decode_parts(file, losses, limits), file, losses):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ClipError("decode", f"a sample rate of {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE}")
        yield block, rate


def _judge(frames: int, told: Losses, losses: Losses | None) -> None:
    """Judge a clip by the number of samples found: raise ClipError, or pass `told` on to `losses`."""
    if not frames and told.what:
        raise ClipError("decode", f"nothing of it could be decoded: {'; '.join(told.what)}")
    if not frames:
        raise ClipError("empty", "the file has no samples")
    if losses is not None:
        losses.take(told)
    elif told.what:
        raise ClipError("decode", f"{told.seconds:.3f} s of it are missing: {'; '.join(told.what)}")


def resample(blocks: Iterator[tuple[Waveform, int]], sample_rate: int) -> Iterator[Waveform]:
    """Resample blocks that share one rate to `sample_rate`, with soxr's HQ filter."""
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
    """A window of a clip, and how many frames at its head and tail belong to its neighbours."""

    wave: Waveform
    drop_head: int
    drop_tail: int
    last: bool = False
    """The last fragment of its clip."""


class FragmentCutter:
    """Cuts a clip into windows of `length` frames, with `overlap` frames to drop on each inner side.

    Windows advance by length - 2 * overlap frames, and each drops `overlap` frames on its inner sides: every frame comes
    from exactly one window. This is the scheme of andreaskoepf/audio_tokenization's encode_piecewise. A remainder too short
    for a window of `min_samples` stays with the window before it.
    """

    def __init__(self, length: int, overlap: int, hop_length: int, min_samples: int) -> None:
        self._window = length * hop_length
        self._overlap = overlap
        self._keep = 2 * overlap * hop_length
        """Samples that a window shares with the next one."""
        self._beyond = max(1, min_samples - self._keep)
        """Samples that must follow a window, or it is the last one."""

    def cut(self, blocks: Iterator[Waveform]) -> Iterator[Fragment]:
        """Yield the fragments of one clip; the last may be empty or too short for the backend."""
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
        yield Fragment(held[0] if len(held) == 1 else np.concatenate(held), head, 0, last=True)
