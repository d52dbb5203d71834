"""A moving window of decoded audio: a little in memory, more in a temporary file."""

from __future__ import annotations

import errno
import io
import os
from collections import deque
from typing import IO, cast

import numpy as np

from jobs.channels import Block
from jobs.scratch import scratch_file, scratch_trouble

__all__ = ["SampleWindow"]

KEPT_IN_MEMORY = 8 << 20
"""Bytes: a window larger than this goes to a temporary file."""
READ_FRAMES = 1 << 15


class SampleWindow:
    """Samples from `start` to `end` of a recording: float32 [samples, channels]. Both bounds only grow.

    At most KEPT_IN_MEMORY bytes and one block are in memory; more go to a temporary file.
    """

    def __init__(self) -> None:
        self.start = self.end = 0
        self._blocks: deque[Block] = deque()
        """The samples from `_first` to `end`, while there is no file."""
        self._first = 0
        """Position of the first sample in the blocks or the file."""
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._channels = 1

    def append(self, block: Block) -> None:
        """Append the next samples. Raises InfrastructureError where there is no room for them."""
        self._channels = block.shape[1]
        self.end += len(block)
        if self._file is not None:
            self._write(block)
            return
        self._blocks.append(block)
        self._bytes += block.nbytes
        if self._bytes > KEPT_IN_MEMORY and len(self._blocks) > 1:
            self._file = scratch_file()
            while self._blocks:
                self._write(self._blocks.popleft())
            self._bytes = 0

    def _write(self, block: Block) -> None:
        assert self._file is not None
        with scratch_trouble():
            self._file.seek(0, io.SEEK_END)
            self._file.write(np.ascontiguousarray(block).data)

    def drop_before(self, position: int) -> None:
        """Drop the samples before `position`."""
        self.start = max(self.start, min(position, self.end))
        if self._file is None:
            while self._blocks and self._first + len(self._blocks[0]) <= self.start:
                self._first += len(self._blocks[0])
                self._bytes -= self._blocks.popleft().nbytes
        elif (self.end - self.start) * self._frame_bytes <= KEPT_IN_MEMORY // 2:
            rest = self._from_file(self.start, self.end)
            self.close()
            self._blocks.append(rest)
            self._first, self._bytes = self.start, rest.nbytes

    @property
    def _frame_bytes(self) -> int:
        return self._channels * np.dtype(np.float32).itemsize

    def read(self, first: int, last: int) -> Block:
        """Samples from `first` on, before `last`: at least one, perhaps not all."""
        if self._file is not None:
            return self._from_file(first, min(last, first + READ_FRAMES))
        at = self._first
        for block in self._blocks:
            if first < at + len(block):
                piece = block[first - at : last - at]
                return piece if len(piece) == len(block) else piece.copy()  # a view of a word would keep its block in memory
            at += len(block)
        raise AssertionError("read beyond the window")

    def _from_file(self, first: int, last: int) -> Block:
        assert self._file is not None
        block = np.empty((last - first, self._channels), np.float32)
        with scratch_trouble():
            self._file.seek((first - self._first) * self._frame_bytes)
            if cast("io.BufferedRandom", self._file).readinto(block.data) != block.nbytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return block

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
