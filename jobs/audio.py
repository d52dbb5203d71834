"""Bytes -> mono float32 at the backend's rate, in blocks; and fragments of it.

Everything here is a generator over blocks, so that a clip of ten hours needs no more memory than one of ten seconds.
Resampling in blocks gives the same samples, bit for bit, as in one piece (soxr; a test guards it).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ClipError
from jobs.audio_headers import mp3_states_its_length, refuse_cut_file
from jobs.channels import Block, Mixer, mixed
from jobs.pyav_samples import float_samples
from jobs.refusals import WatchedFile, confirmed, require_memory

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

__all__ = ["Fragment", "FragmentCutter", "decode", "decode_blocks", "decode_channels", "resample"]

BLOCK_FRAMES = 1 << 18
PYAV_BLOCK_FRAMES = 1 << 15
"""Few enough to stay in a core's cache on their way through FFmpeg's queue: with more, fresh memory costs as much as AAC."""
MOST_BLOCK_SAMPLES = 8 * BLOCK_FRAMES
"""Of all channels, of which a header may state 1024."""
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count for a FLAC that was streamed, which it cannot read in blocks."""
MICROSECONDS = 1_000_000
ABOUT_THE_FILE = (1, 3, 4)
"""libsndfile's codes for an unknown format, a malformed file and an unknown encoding."""
PYAV_OPTIONS = {"err_detect": "explode", "protocol_whitelist": "none"}
"""Report damage; and open no file or address that a member names, as a playlist would."""
STATES_DURATION = ("mov,", "matroska,")
"""PyAV's names of containers whose duration is stated; that of others is a guess from the bit rate."""
DURATION_SLACK_SECONDS, DURATION_SLACK_FRAMES = 0.1, 4096
"""Stated durations are rounded, and count an encoder's padding or do not."""
_PYAV_TURN = threading.Lock()
"""Held while a block is decoded: PyAV lets go of the GIL ten times per frame. Where a frame is decoded in 10 to 25 us (AAC,
MP3, Vorbis, WMA, AC-3), threads that hand the GIL to and fro are done no sooner and take up to twice the CPU time.
"""
_PYAV_TURNS: Mapping[str, contextlib.AbstractContextManager[object]] = {
    "opus": threading.BoundedSemaphore(2),
    **dict.fromkeys(("alac", "flac", "tta", "wavpack"), contextlib.nullcontext()),
}
"""What is held instead where a frame takes longer. On two cores, two threads do 1.3 times as much of Opus (30 us) as one, in
1.5 times the CPU time, and 1.5 to 1.9 times as much of the lossless ones (100 us and more): benchmarks/compressed.py.
"""


def decode(file: IO[bytes], *, mono: str | Mixer, max_seconds: float | None = None) -> Iterator[tuple[Waveform, int]]:
    """Decode to mono blocks: (float32 [samples], sample rate in Hz), of BLOCK_FRAMES at most, the last one shorter or empty.

    `mono` is one of `Mixer`'s rules, or a mixer, which has its notes when all blocks have passed. Raises what
    `decode_blocks` and `Mixer.mix` do.
    """
    return mixed(decode_blocks(file, max_seconds=max_seconds), Mixer(mono) if isinstance(mono, str) else mono)


def decode_blocks(file: IO[bytes], *, max_seconds: float | None = None) -> Iterator[tuple[Block, int]]:
    """Decode to blocks of all channels: (float32 [samples, channels], sample rate in Hz), as long as those of `decode`.

    soundfile decodes what it knows, PyAV the rest (m4a, webm, odd codecs). Raises ClipError: `empty` (no samples),
    `decode` (unreadable, or fewer samples than its header promises), `too_long` (over `max_seconds`);
    OSError, MemoryError and InfrastructureError where the machine is at fault.
    """
    if file.seek(0, io.SEEK_END) == 0:
        raise ClipError("empty", "the file is empty (0 bytes)")
    file.seek(0)
    refuse_cut_file(file)
    frames = 0
    for block, rate in confirmed(decode_channels, file):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ClipError("decode", f"a sample rate of {rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE}")
        frames += len(block)
        if max_seconds is not None and frames > max_seconds * rate:
            raise ClipError("too_long", f"longer than {max_seconds:g} s")
        yield block, rate
    if frames == 0:
        raise ClipError("empty", "the file has no samples")


def decode_channels(file: IO[bytes]) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    """Blocks of float32 [samples, channels], with the sample rate in Hz, of a file that `refuse_cut_file` lets pass.

    Raises ClipError `decode`.
    """
    mp3_length_known = mp3_states_its_length(file)  # before libsndfile opens it: both may share one file position
    descriptor = _descriptor(file)
    watched = WatchedFile(file)
    try:
        sound = _open_with_soundfile(watched, descriptor)
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        file.seek(0)
        yield from _open_with_pyav(watched, getattr(error, "error_string", str(error)))
    else:
        with sound:
            if sound.frames < UNKNOWN_FRAMES and (mp3_length_known or sound.format != "MP3"):
                yield from _read_soundfile(sound, watched)
                return
        file.seek(0)
        yield from _open_with_pyav(watched, "its length is not stated.")
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_with_soundfile(watched: WatchedFile, descriptor: int | None) -> soundfile.SoundFile:
    """Refused means decoded by PyAV, to samples that may differ in their last bits: no passing trouble may decide that."""
    try:
        try:
            return soundfile.SoundFile(watched if descriptor is None else descriptor, closefd=False)
        except soundfile.LibsndfileError as error:
            watched.check()
            if descriptor is None and error.code in ABOUT_THE_FILE:
                raise
        require_memory()
        if descriptor is None:
            watched.seek(0)
        else:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return soundfile.SoundFile(watched if descriptor is None else descriptor, closefd=False)
    finally:
        watched.check()


def _descriptor(file: IO[bytes]) -> int | None:
    """A descriptor of the bytes that libsndfile can read without a Python callback per read; None if that is slower.

    It is for a real file; and for MP3, which libsndfile reads in pieces so small that a copy is 1.3 times as fast.
    """
    if not isinstance(file, io.BytesIO):
        descriptor = os.dup(file.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)  # `file` has read ahead, and libsndfile begins where the descriptor stands
        return descriptor
    head = file.read(3)
    file.seek(0)
    looks_like_mp3 = head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if not looks_like_mp3 or not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("mp3")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as copy, file.getbuffer() as view:
            copy.write(view)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NOATIME)  # or each of hundreds of reads would note its time
    except BaseException:
        os.close(descriptor)
        raise
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_soundfile(
    sound: soundfile.SoundFile, watched: WatchedFile
) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    promised = sound.frames
    size = min(BLOCK_FRAMES, promised + 1, MOST_BLOCK_SAMPLES // sound.channels)
    frames = 0
    while True:
        buffer = np.empty((size, sound.channels), np.float32)
        try:
            block = sound.read(out=buffer)
        except soundfile.LibsndfileError as error:
            raise ClipError("decode", f"damaged after sample {frames}: {error.error_string}") from None
        finally:
            watched.check()
        frames += len(block)
        yield block, sound.samplerate
        if len(block) < size:
            break
    if frames < promised:
        raise ClipError("decode", f"cut short: its header promises {promised} samples, only {frames} could be decoded")


def _open_with_pyav(file: WatchedFile, refusal: str) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int]]:
    """Blocks of PYAV_BLOCK_FRAMES and up to one of FFmpeg's frames more, the last one shorter."""
    turn: contextlib.AbstractContextManager[object] = _PYAV_TURN
    with contextlib.closing(_pyav_blocks(file, refusal)) as blocks:
        while True:
            try:
                with turn:
                    found = next(blocks, None)
            finally:
                file.check()
            if found is None:
                return
            samples, rate, decoder = found
            turn = _PYAV_TURNS.get(decoder, _PYAV_TURN)
            yield samples, rate


def _pyav_blocks(file: WatchedFile, refusal: str) -> Generator[tuple[np.ndarray[Any, np.dtype[np.float32]], int, str]]:
    """FFmpeg's frames, gathered as they are: to convert each of them alone would cost several times as much.

    With them their rate, and FFmpeg's name of the decoder.
    """
    import av

    gathered = av.AudioFifo()
    decoder = ""

    def blocks() -> Iterator[tuple[np.ndarray[Any, np.dtype[np.float32]], int, str]]:
        frame = gathered.read()
        if frame is not None:
            yield float_samples(frame), frame.sample_rate, decoder

    try:
        try:
            for frame, decoder in _pyav_frames(file):  # noqa: B007 (`blocks` tells it)
                frame.pts = None  # with times, the queue would refuse a gap
                gathered.write(frame)
                if gathered.samples >= PYAV_BLOCK_FRAMES:
                    yield from blocks()
        except Exception:
            yield from blocks()  # what came before the damage may be at fault first: too long, or not finite
            raise
        yield from blocks()
    except av.error.MemoryError:
        require_memory()  # else it is the header that lies
        raise ClipError("decode", "damaged: its headers ask for more memory than any audio needs") from None
    except (av.error.FFmpegError, ValueError, LookupError, ArithmeticError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise ClipError("decode", f"not decodable: soundfile: {refusal} PyAV: {found}") from None


def _pyav_frames(file: WatchedFile) -> Iterator[tuple[AudioFrame, str]]:
    """The frames of the first audio stream, all of one form, and its decoder. Raises ClipError, and what PyAV raises."""
    import av

    with av.open(file, mode="r", options=PYAV_OPTIONS) as container:
        if not container.streams.audio:
            raise ClipError("decode", "a container without an audio stream")
        stream = container.streams.audio[0]
        frames = rate = channels = 0
        form: tuple[str, str] | None = None
        for frame in container.decode(stream):
            found = (frame.layout.name, frame.format.name)
            if form is None:  # only here is it certain: AAC's header may state half of it
                rate, channels, form = frame.sample_rate, frame.layout.nb_channels, found
            if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
                raise ClipError("decode", "the sample rate or the number of channels changes within the file")
            if found != form:
                raise ClipError("decode", "the order of the channels or the sample format changes within the file")
            frames += frame.samples
            yield frame, stream.codec_context.name
        promised = _stated_seconds(container, stream)
        slack = DURATION_SLACK_SECONDS + DURATION_SLACK_FRAMES / max(rate, 1)
        if rate and promised is not None and frames / rate < promised - slack:
            message = f"cut short: its header promises {promised:.2f} s, only {frames / rate:.2f} s could be decoded"
            raise ClipError("decode", message)


def _stated_seconds(container: InputContainer, stream: AudioStream) -> float | None:
    """How long the container says that the stream is, where it says so at all."""
    if not container.format.name.startswith(STATES_DURATION):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None or len(container.streams) > 1:
        return None
    return float(container.duration) / MICROSECONDS


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
    last: bool = False
    """Of its clip."""


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
        yield Fragment(held[0] if len(held) == 1 else np.concatenate(held), head, 0, last=True)
