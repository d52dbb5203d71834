"""Decode a damaged FLAC frame by frame: frame numbers and checksums show what is missing, to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from jobs.audio_tags import only_tags
from jobs.channels import Block
from jobs.flac_frames import LONGEST_HEADER, StreamInfo, frame_range
from jobs.losses import Losses
from jobs.pyav_decoder import CHECKSUMS, PYAV_OPTIONS, undecodable
from jobs.pyav_samples import float_samples
from jobs.refusals import WatchedFile, require_memory

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet

__all__ = ["decode_flac"]

GATHERED_FRAMES = 1 << 15
LOST_FRAMES = "FLAC frames that are damaged or missing"


def decode_flac(file: WatchedFile, info: StreamInfo, skip: int, refusal: str, losses: Losses) -> Iterator[tuple[Block, int]]:
    """Blocks of float32 [samples, channels], and their rate, of all whole frames from sample `skip` on.

    FLAC is lossless: the samples equal libsndfile's, bit for bit, and continue where it stopped. `losses` gets what is
    missing between frames and up to the stated number of samples, unless the last frame is shorter than the others: then it
    ends the stream, and the header is wrong.
    Raises ClipError `decode` where nothing can be decoded.
    """
    walk = _Walk(info, skip)
    gathered: list[Block] = []
    for samples in _frames(file, walk):
        if walk.shifted and not losses.shifted:
            if gathered:
                yield np.concatenate(gathered), info.rate
                gathered.clear()
            losses.shifted = True
        if gathered and (samples.shape[1] != gathered[0].shape[1] or sum(map(len, gathered)) >= GATHERED_FRAMES):
            yield np.concatenate(gathered), info.rate
            gathered.clear()
        gathered.append(samples)
    if gathered:
        yield np.concatenate(gathered), info.rate
    if not walk.done and walk.error is not None:
        raise undecodable(refusal, walk.error)
    if walk.placed:
        losses.gaps += [(at / info.rate, missing / info.rate) for at, missing in walk.gaps]
    if missing := walk.missing():
        losses.add(missing / info.rate, LOST_FRAMES)


def _frames(file: WatchedFile, walk: _Walk) -> Iterator[Block]:
    """The samples of each frame, as far as the file can be read."""
    import av

    try:
        with av.open(file, mode="r", format="flac", options=PYAV_OPTIONS) as container:
            stream = container.streams.audio[0]
            stream.codec_context.options = CHECKSUMS["flac"]
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    walk.damaged(packet, error)
                else:
                    yield from walk.new_samples(packet, [float_samples(frame) for frame in frames])
                finally:
                    file.check()
    except (av.error.FFmpegError, ValueError, LookupError, ArithmeticError) as error:
        walk.damaged(None, error)
    finally:
        file.check()


class _Walk:
    """Tracks the place of each frame in the stream."""

    def __init__(self, info: StreamInfo, skip: int) -> None:
        self._info = info
        self._skip = skip
        self._position = 0
        self._gaps = 0
        self._tail: list[int] = []
        """Sizes in bytes of the undecodable packets since the last frame."""
        self._tail_is_tags = True
        self._ended = False
        """The latest frame is short, so it is the stream's last."""
        self.error: BaseException | None = None
        """The first error."""
        self.shifted = False
        """Frames are missing before the current one."""
        self.gaps: list[tuple[int, int]] = []
        """(samples yielded before the gap, those before `skip` included; samples missing) of each gap."""
        self.placed = True
        """All frames so far had ascending numbers."""
        self.done = skip
        """Samples yielded, those before `skip` included."""

    def new_samples(self, packet: Packet[AudioStream], frames: list[Block]) -> Iterator[Block]:
        """A packet's samples that were not yielded before. It holds one frame, unless damage hides where the next begins."""
        if not frames:
            return
        found = frame_range(bytes(memoryview(packet)[:LONGEST_HEADER]), self._info)
        numbered = found is not None and self._info.block > 0
        begin = found[0] if found is not None and numbered else self._position
        self.shifted = self.shifted or begin > max(self._position, self._skip) or not (numbered or self._tail_is_tags)
        self.placed = self.placed and begin >= self._position and (numbered or self._tail_is_tags)
        missing = begin - max(self._position, self._skip)
        if begin > self._position and missing > 0:
            self._gaps += missing
            self.gaps.append((self.done, missing))
        for block in frames:
            fresh = block[max(self._skip - begin, 0) :] if begin < self._skip else block
            self.done += len(fresh)
            yield fresh
            begin += len(block)
        self._position = begin
        self._ended = len(frames[-1]) < self._info.block
        self._tail.clear()
        self._tail_is_tags = True

    def damaged(self, packet: Packet[AudioStream] | None, error: BaseException) -> None:
        """Note a packet that is not a valid frame; None: the file cannot be read any further."""
        if isinstance(error, MemoryError):
            require_memory()  # if there is memory, the frame's header is wrong
        self.error = self.error or error
        if packet is not None:
            self._tail.append(packet.size)
            self._tail_is_tags = self._tail_is_tags and only_tags(bytes(packet), at_end=True)

    def missing(self) -> int:
        """Samples missing, as far as frame numbers and headers show."""
        frames_at_end = 0 if self._tail_is_tags else len(self._tail)
        if self._info.samples and not (self._ended and not frames_at_end):
            return max(self._info.samples - self.done, self._gaps, frames_at_end)
        return self._gaps + frames_at_end * self._info.block
