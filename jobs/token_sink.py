"""Collect a clip's codes fragment by fragment and return them as JSON, in memory that does not grow with the clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

import numpy as np

from audio_tokenizers.base import Codes
from jobs.records import codes_to_json
from jobs.scratch import scratch_file, scratch_trouble
from jobs.sequence_counter import SequenceCounter

__all__ = ["TokenSink"]

TOKENS_IN_MEMORY = 1 << 17
"""Few, because small long-lived arrays between a model's large ones keep the C heap from shrinking: with 32 times as many, a
worker's memory grew by 120 MB per hour of one clip.
"""
COPY_BYTES = 1 << 20


class TokenSink:
    """Codes of one clip. Up to TOKENS_IN_MEMORY stay arrays; beyond that each codebook may go to a temporary file."""

    def __init__(
        self,
        codebooks: int,
        tokens_in_memory: int = TOKENS_IN_MEMORY,
        *,
        kept_as: np.dtype[Any] | None = None,
        count: Callable[[], SequenceCounter] | None = None,
    ) -> None:
        """`kept_as`: the integer type of the codes that `take_unkept` returns. `count` makes a counter for codes that leave
        the memory.
        """
        self._arrays: list[Codes] = []
        self._kept = 0
        """Arrays that `take_unkept` has already returned."""
        self._unkept = bytearray()
        """Spilled codes that it has not returned yet, in one block: arrays would keep the heap from shrinking."""
        self._kept_as = np.dtype("<i8") if kept_as is None else kept_as
        self._held = 0
        self.bytes_in_memory = 0
        self._tokens_in_memory = tokens_in_memory
        self._files: list[IO[bytes]] = []
        self._codebooks = codebooks
        self._count = count
        self._counter: SequenceCounter | None = None
        self.frames = 0

    def __enter__(self) -> TokenSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, codes: Codes, *, may_spill: bool = True) -> None:
        """Append codes [codebooks, frames]. `may_spill` allows files, of which a process may open only a few hundred."""
        self._arrays.append(codes)
        self._held += codes.size
        self.bytes_in_memory += codes.nbytes
        self.frames += codes.shape[1]
        if may_spill and self._held > self._tokens_in_memory:
            self._spill()

    def _spill(self) -> None:
        if not self._files:
            for _ in range(self._codebooks):
                self._files.append(scratch_file())
        with scratch_trouble():
            for codes in self._arrays:
                for file, row in zip(self._files, codes, strict=True):
                    if file.tell() and row.size:
                        file.write(b",")
                    file.write(codes_to_json(row)[1:-1])
        self._unkept += self._compact()
        if self._count is not None:
            self._counter = self._counter or self._count()
            for codes in self._arrays:
                self._counter.extend(codes)
        self._arrays.clear()
        self._held = self.bytes_in_memory = self._kept = 0

    def _compact(self) -> bytes:
        arrays = self._arrays[self._kept :]
        return b"".join(np.ascontiguousarray(codes.T, self._kept_as).tobytes() for codes in arrays)

    @property
    def unkept_bytes(self) -> int:
        """Bytes that `take_unkept` would return."""
        return len(self._unkept) + sum(codes.size for codes in self._arrays[self._kept :]) * self._kept_as.itemsize

    def take_unkept(self) -> bytes:
        """The codes added since the last call: [frames, codebooks] of type `kept_as`."""
        found = bytes(self._unkept) + self._compact()
        self._unkept.clear()
        self._kept = len(self._arrays)
        return found

    def json_parts(self) -> Iterator[bytes]:
        """The JSON text of all codes [codebooks, frames], piece by piece."""
        if not self._files and self._held <= self._tokens_in_memory:
            yield codes_to_json(self._arrays[0] if len(self._arrays) == 1 else np.concatenate(self._arrays, axis=1))
            return
        self._spill()
        for k, file in enumerate(self._files):
            yield b"],[" if k else b"[["
            with scratch_trouble():
                file.seek(0)
            while piece := _piece(file):
                yield piece
        yield b"]]"

    def counted(self) -> Codes | SequenceCounter:
        """All codes [codebooks, frames]; if some have left the memory, their counter, which has the others too."""
        if self._counter is not None:
            self._spill()
            return self._counter
        return self._arrays[0] if len(self._arrays) == 1 else np.concatenate(self._arrays, axis=1)

    def close(self) -> None:
        """Drop all codes and files."""
        for file in self._files:
            with suppress(OSError):  # closing tries once more to write buffered data
                file.close()
        self._files = []
        self._arrays = []
        self._unkept.clear()


def _piece(file: IO[bytes]) -> bytes:
    with scratch_trouble():
        return file.read(COPY_BYTES)
