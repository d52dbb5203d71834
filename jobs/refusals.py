"""Before a clip is refused, the machine has to show that it is not at fault: a record of bad data stays for good.

A decoder that gets no memory, or a read error, says that the file is damaged, as libsndfile does in a dozen ways, or says
nothing and decodes what it has. So read errors are noted where they happen, and a refusal counts if the file can be read
through, memory can be had, and the decoder refuses the file again, at the same place and in the same words. A clip of which
a part is lost is read again for the same reason.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from typing import IO, TypeVar, cast

import numpy as np

from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.losses import Losses

__all__ = ["WatchedFile", "confirmed", "require_memory"]

MUCH_MEMORY = 256 << 20
"""Bytes, more than any decoder needs for audio."""
READ_BYTES = 1 << 20
T = TypeVar("T")


class WatchedFile:
    """A clip's bytes for a decoder in C, which drops exceptions: where reading raises one the file seems to end.

    `check` raises it after all.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = cast("io.BufferedRandom", file)
        self._trouble: BaseException | None = None

    def check(self) -> None:
        """Raise what reading has raised, if it has."""
        if self._trouble is not None:
            raise self._trouble

    def _noting(self, instead: T, call: Callable[..., T], *arguments: object) -> T:
        try:
            return call(*arguments)
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in (None, errno.EINVAL):
                raise  # a place that no file has: the decoder's idea, after damage
            self._trouble = error
            return instead

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        return self._noting(b"", self._file.read, size)

    def readinto(self, buffer: bytearray) -> int:
        """As of any file."""
        return self._noting(0, self._file.readinto, buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        return self._noting(0, self._file.seek, offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._noting(0, self._file.tell)


def require_memory() -> None:
    """Raise MemoryError if the machine is short of it. None is touched: it would count."""
    np.empty(MUCH_MEMORY, np.uint8)


def confirmed(decode: Callable[[IO[bytes], Losses], Iterator[T]], file: IO[bytes], losses: Losses) -> Iterator[T]:
    """What `decode(file, losses)` yields. A ClipError in which it ends is raised if a second reading ends in the same one.

    So it is with losses: they are told after the last block, if a second reading has the same ones; that what follows is
    `shifted` is told at once.

    Raises OSError, MemoryError and, where the second reading ends differently, InfrastructureError.
    """
    blocks = 0
    refusal: ClipError | None = None
    told = Losses()
    try:
        for block in decode(file, told):
            blocks += 1
            losses.shifted = losses.shifted or told.shifted
            yield block
    except ClipError as error:
        refusal = ClipError(error.kind, str(error))
    if refusal is None and not told.what:
        losses.take(told)
        return
    require_memory()
    file.seek(0)
    while file.read(READ_BYTES):
        pass
    file.seek(0)
    again = Losses()
    second = _refusal(decode(file, again), blocks)
    same = (second is None) == (refusal is None) and (
        second is None or refusal is None or (second.kind, str(second)) == (refusal.kind, str(refusal))
    )
    if not same or (refusal is None and again != told):
        first = str(refusal) if refusal is not None else "; ".join(told.what)
        ending = "went well" if second is None and not again.what else f"ended otherwise ({second or again.what})"
        raise InfrastructureError(
            f"a clip could not be decoded ({first}), but a second try {ending}: memory or disk fail here"
        )
    if refusal is not None:
        raise refusal
    losses.take(told)


def _refusal(decoded: Iterator[object], blocks: int) -> ClipError | None:
    """In what a reading ends after so many blocks."""
    found = 0
    try:
        for _ in decoded:
            found += 1
            if found > blocks:
                return ClipError("decode", "with more blocks")
    except ClipError as error:
        return error if found == blocks else ClipError(error.kind, f"after {found} blocks: {error}")
    return None if found == blocks else ClipError("decode", f"after {found} blocks")
