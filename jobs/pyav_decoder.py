"""FFmpeg through PyAV, packet by packet: decodes damaged files and what libsndfile does not decode.

A packet that cannot be decoded is skipped, as in FFmpeg's own player, and what it held is reported as lost.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from audio_tokenizers.errors import ClipError
from jobs.audio_tags import only_tags
from jobs.channels import Block
from jobs.gap_finder import JUMP_SECONDS, GapFinder, TimesAt
from jobs.losses import UNNOTICED_SECONDS, Losses
from jobs.matroska import is_whole_matroska
from jobs.pyav_samples import float_samples
from jobs.refusals import WatchedFile, require_memory

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

__all__ = ["decode_with_pyav", "undecodable"]

PYAV_BLOCK_FRAMES = 1 << 15
"""Few enough to stay in a core's cache inside FFmpeg's queue: with more, fresh memory costs as much as decoding AAC."""
MICROSECONDS = 1_000_000
PYAV_OPTIONS = {"protocol_whitelist": "none"}
"""Open no file or address that a member names, as a playlist may."""
CHECKSUMS = {"flac": {"err_detect": "crccheck+explode"}}
"""Options by decoder that make it refuse a frame with a wrong checksum rather than play noise."""
STATES_DURATION = ("mov,", "matroska,")
"""PyAV's names of the containers that state a duration; for others it is a guess from the bit rate."""
DURATION_SLACK_SECONDS, DURATION_SLACK_FRAMES = 0.1, 4096
"""Stated durations are rounded, and may or may not count the encoder's padding."""
READ_AHEAD = 1 << 15
"""Bytes that FFmpeg may have read but not parsed."""
LOST_PACKETS = "packets that cannot be decoded"
_PYAV_TURN = threading.Lock()
"""Held while a block is decoded: PyAV releases the GIL ten times per frame. Where a frame takes 10 to 25 us (AAC, MP3,
Vorbis, WMA, AC-3), threads that pass the GIL back and forth finish no sooner and take up to twice the CPU time.
"""
_PYAV_TURNS: Mapping[str, contextlib.AbstractContextManager[object]] = {
    "opus": threading.BoundedSemaphore(2),
    **dict.fromkeys(("alac", "flac", "tta", "wavpack"), contextlib.nullcontext()),
}
"""Held instead by decoders whose frames take longer. On two cores, two threads decode 1.3 times as much Opus (30 us) as
one, in 1.5 times the CPU time, and 1.5 to 1.9 times as much lossless audio (100 us and more): benchmarks/compressed.py.
"""


def decode_with_pyav(
    file: WatchedFile,
    refusal: str,
    losses: Losses,
    container: str | None = None,
    *,
    tells: bool = True,
    times_at: TimesAt | None = None,
) -> Iterator[tuple[Block, int]]:
    """Blocks of float32 [samples, channels] of the first audio stream, and their rate in Hz.

    Blocks have PYAV_BLOCK_FRAMES and up to one FFmpeg frame more, fewer at the end and where the rate or the channels
    change. If `tells`, `losses` gets what packets and the stated duration show to be missing; without it (the caller knows
    better), only that what follows is shifted, and the gaps. Gaps are placed by `times_at` or, without it, by the
    container's times. `refusal` says why libsndfile does not decode the file; `container` is FFmpeg's name of its format,
    where it is known.
    Raises ClipError `decode` where nothing can be decoded.
    """
    turn: contextlib.AbstractContextManager[object] = _PYAV_TURN
    with contextlib.closing(_pyav_blocks(file, refusal, losses, container, times_at, tells=tells)) as blocks:
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


def undecodable(refusal: str, error: BaseException) -> ClipError:
    """The error for a clip that neither decoder accepts."""
    found = getattr(error, "strerror", None) or str(error)
    return ClipError("decode", f"not decodable: soundfile: {refusal} PyAV: {found}")


def _pyav_blocks(
    file: WatchedFile, refusal: str, losses: Losses, container: str | None, times_at: TimesAt | None, *, tells: bool
) -> Generator[tuple[Block, int, str]]:
    """Blocks, their rate, and FFmpeg's name of the decoder."""
    import av

    told = _Told(times_at)
    try:
        yield from _gathered(_pyav_frames(file, told, container), told, losses)
        if not told.seconds and told.refused is not None:
            raise told.refused
    except av.error.MemoryError:
        require_memory()  # if there is memory, the header is wrong
        raise ClipError("decode", "damaged: its headers ask for more memory than any audio needs") from None
    except (av.error.FFmpegError, ValueError, LookupError, ArithmeticError) as error:
        raise undecodable(refusal, error) from None
    losses.doubt += told.jumps
    if losses.shifted:
        losses.gaps += told.gaps()
    if tells:
        told.tell(losses, file)


def _gathered(frames: Iterator[AudioFrame], told: _Told, losses: Losses) -> Iterator[tuple[Block, int, str]]:
    """FFmpeg's frames, gathered into blocks before conversion: converting each frame alone would cost several times as much.
    A block never spans a place where something is missing.
    """
    import av

    gathered = av.AudioFifo()
    form: tuple[object, ...] | None = None

    def blocks() -> Iterator[tuple[Block, int, str]]:
        frame = gathered.read()
        if frame is not None:
            told.seconds += frame.samples / frame.sample_rate
            yield float_samples(frame), frame.sample_rate, told.decoder

    try:
        for frame in frames:
            if told.shifted and not losses.shifted:
                yield from blocks()
                losses.shifted = True
            found = (frame.sample_rate, frame.layout.name, frame.format.name)
            if found != form:
                yield from blocks()
                gathered, form = av.AudioFifo(), found
            frame.pts = None  # with times, the queue would refuse a gap
            gathered.write(frame)
            if gathered.samples >= PYAV_BLOCK_FRAMES:
                yield from blocks()
    except Exception:
        yield from blocks()  # audio before the damage may fail first: too long, or not finite
        raise
    yield from blocks()


def _pyav_frames(file: WatchedFile, told: _Told, form: str | None) -> Iterator[AudioFrame]:
    """The frames of the first audio stream. Raises ClipError, and what PyAV raises if there are none."""
    import av

    with av.open(file, mode="r", format=form, options=PYAV_OPTIONS) as container:
        if not container.streams.audio:
            raise ClipError("decode", "a container without an audio stream")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise ClipError("decode", "audio that FFmpeg has no decoder for")
        told.begin(container, stream)
        if options := CHECKSUMS.get(told.decoder):
            stream.codec_context.options = options
        packets = container.demux(stream)
        packet: Packet[AudioStream] | None = None
        while True:
            try:
                for packet in packets:
                    for frame in packet.decode():
                        told.gave(frame, packet.pos)
                        yield frame
                    told.decoded(packet)
                    packet = None  # noqa: PLW2901 (an error from here on comes from reading the next packet)
                return
            except (av.error.FFmpegError, ValueError, LookupError, ArithmeticError) as error:
                if isinstance(error, MemoryError):
                    require_memory()  # if there is memory, the packet is damaged
                if packet is None:
                    told.break_off(error, file.tell())
                    break
                told.refuse(packet, error)
                packet = None
        with contextlib.suppress(av.error.FFmpegError):
            yield from stream.codec_context.decode(None)


class _Told:
    """What a container's packets and headers say about missing audio."""

    def __init__(self, times_at: TimesAt | None) -> None:
        self.finder = GapFinder(times_at)
        self._places_tell = times_at is not None
        self.decoder = ""
        """FFmpeg's name of the decoder."""
        self.seconds = 0.0
        """Seconds decoded so far."""
        self.last: AudioFrame | None = None
        """The last frame; `pts` is its time."""
        self.pts: int | None = None
        self.refused: BaseException | None = None
        """The first error."""
        self.jumps = 0.0
        """Seconds that the frames' times skip."""
        self.shifted = False
        """Audio is missing before the current frame."""
        self._next_time = math.inf
        self._refused_audio = False
        self._broken: BaseException | None = None
        """The error that ended reading early; `_position` is where."""
        self._position = 0
        self._promised: float | None = None
        self._time_base = Fraction(0)
        self._unit = 0.0
        """Seconds per tick where the container states times of its own; 0 where times are only sums of decoded audio."""
        self._is_matroska = False
        self._bytes = 0
        self._lost = _Packets()
        self._tail = _Packets()
        """Packets refused since the last one that was decoded."""
        self._tail_is_tags = True

    def begin(self, container: InputContainer, stream: AudioStream) -> None:
        """Take the headers, before the first packet."""
        self.decoder = stream.codec_context.name
        self._promised = _stated_seconds(container, stream)
        self._time_base = stream.time_base or Fraction(0)
        self._unit = float(self._time_base) if container.format.name.startswith(STATES_DURATION) else 0.0
        self._is_matroska = container.format.name.startswith("matroska")

    def gave(self, frame: AudioFrame, place: int | None) -> None:
        """Take a frame, decoded from the packet at `place` of the file."""
        seconds = frame.samples / max(frame.sample_rate, 1)
        if (self._refused_audio and self.last is None) or (self._unit and frame.pts is None):
            self.finder.doubt()
        elif self._unit and frame.pts is not None:
            self.finder.hear_at(frame.pts * self._unit, seconds)
        else:
            self.finder.hear(place, seconds)
        self.last, self.pts = frame, frame.pts
        if self._refused_audio:
            self.shifted = True
        if self._unit and self.pts is not None:
            time = self.pts * self._unit
            if time > self._next_time + JUMP_SECONDS:
                self.jumps += time - self._next_time
                self.shifted = self.shifted or self.jumps > UNNOTICED_SECONDS
            self._next_time = time + seconds

    def gaps(self) -> list[tuple[float, float]]:
        """The gaps that the times show; none if packets are missing that the times do not skip."""
        found = self.finder.gaps()
        lost = 0.0 if self._places_tell else self._lost.seconds(self.seconds / self._bytes if self._bytes else 0.0)
        return found if lost <= sum(missing for _, missing in found) + UNNOTICED_SECONDS else []

    def decoded(self, packet: Packet[AudioStream]) -> None:
        """Note that a packet was decoded."""
        self._bytes += packet.size
        if self._tail.count and packet.size:
            self._lost.take(self._tail)

    def refuse(self, packet: Packet[AudioStream], error: BaseException) -> None:
        """Note that a packet could not be decoded."""
        self.refused = self.refused or error
        if not packet.size:
            return
        data = bytes(packet)
        if not self._tail.count:
            self._tail_is_tags = only_tags(data, at_end=True)
        stated = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.0
        is_tag = only_tags(data, at_end=False)
        self._refused_audio = self._refused_audio or not is_tag
        self._tail.take(_Packets(1, 0.0, 0) if is_tag else _Packets(1, stated, packet.size))

    def break_off(self, error: BaseException, position: int) -> None:
        """Note that the container cannot be read any further."""
        self.refused = self.refused or error
        self._broken, self._position = error, position

    def tell(self, losses: Losses, file: WatchedFile) -> None:
        """Add what is missing to `losses`, after all packets."""
        missing = self._missing_at_end(file)
        if missing:
            losses.add(missing, f"its end: {self._promised:.2f} s are promised")
        elif self._tail.count and not self._tail_is_tags:
            self._lost.take(self._tail)
        elif self._broken is not None:
            losses.add(self._rest(file), f"what follows damage to the container: {_reason(self._broken)}")
        if lost := self._lost.seconds(self.seconds / self._bytes if self._bytes else 0.0):
            losses.add(lost, LOST_PACKETS)

    def _missing_at_end(self, file: WatchedFile) -> float:
        """Seconds that the container states, but that were neither decoded nor counted as lost; 0 if they are few."""
        if self._promised is None or self.last is None:
            return 0.0
        rate = max(self.last.sample_rate, 1)
        slack = DURATION_SLACK_SECONDS + DURATION_SLACK_FRAMES / rate
        missing = self._promised - self.seconds - self._lost.seconds(0.0)
        if missing > slack and self.pts is not None and (not self._is_matroska or is_whole_matroska(file)):
            # In an undamaged file, a gap between times was in the recording.
            missing = min(missing, self._promised - float(self.pts * self._time_base) - self.last.samples / rate)
        return missing if missing > slack else 0.0

    def _rest(self, file: WatchedFile) -> float:
        """Estimated seconds in the bytes that were not read."""
        rest = file.seek(0, io.SEEK_END) - max(self._position - READ_AHEAD, self._bytes)
        return max(rest, 1) * self.seconds / self._bytes if self._bytes else 0.0


@dataclass(slots=True)
class _Packets:
    """Packets that were lost."""

    count: int = 0
    stated: float = 0.0
    """Seconds, as the container states them."""
    size: int = 0
    """Bytes."""

    def take(self, others: _Packets) -> None:
        """Move the packets of `others` here."""
        self.count += others.count
        self.stated += others.stated
        self.size += others.size
        others.count = others.size = 0
        others.stated = 0.0

    def seconds(self, pace: float) -> float:
        """The stated seconds, or `pace` seconds per byte if that is more: a damaged packet may have swallowed others."""
        return max(self.stated, self.size * pace)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def _stated_seconds(container: InputContainer, stream: AudioStream) -> float | None:
    """The stream's duration as the container states it; None if it does not."""
    if not container.format.name.startswith(STATES_DURATION):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None or len(container.streams) > 1:
        return None
    return float(container.duration) / MICROSECONDS
