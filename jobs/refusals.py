"""Rule out a fault of the machine before refusing a clip: a record of bad data is permanent.

When memory or a read fails, a decoder reports a damaged file (libsndfile in a dozen ways), or says nothing and decodes what
it has. Therefore read errors are noted where they happen. A refusal counts only if the whole file can be read, memory is
available, and the decoder refuses the file again, at the same place with the same message. A clip that lost a part is
decoded again for the same reason.
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
    """A clip's bytes for a C decoder, which drops exceptions: to it the file seems to end where reading raises one.

    `check` raises that exception afterwards.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = cast("io.BufferedRandom", file)
        self._trouble: BaseException | None = None

    def check(self) -> None:
        """Raise the exception that reading raised, if any."""
        if self._trouble is not None:
            raise self._trouble

    def _noting(self, instead: T, call: Callable[..., T], *arguments: object) -> T:
        try:
            return call(*arguments)
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in (None, errno.EINVAL):
                raise  # an impossible position, which a decoder asks for after damage
            self._trouble = error
            return instead

    def read(self, size: int = -1) -> bytes:
        """Like `io.BufferedReader.read`."""
        return self._noting(b"", self._file.read, size)

    def readinto(self, buffer: bytearray) -> int:
        """Like `io.BufferedReader.readinto`."""
        return self._noting(0, self._file.readinto, buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Like `io.BufferedReader.seek`."""
        return self._noting(0, self._file.seek, offset, whence)

    def tell(self) -> int:
        """Like `io.BufferedReader.tell`."""
        return self._noting(0, self._file.tell)


def require_memory() -> None:
    """Raise MemoryError if the machine is short of memory. The test block is not touched: that would use the memory."""
    np.empty(MUCH_MEMORY, np.uint8)


def confirmed(decode: Callable[[IO[bytes], Losses], Iterator[T]], file: IO[bytes], losses: Losses) -> Iterator[T]:
    """Yield what `decode(file, losses)` yields. If it ends in a ClipError, raise it only if a second decoding does too.

    Losses likewise: they are added after the last block, if a second decoding has the same ones; only `shifted` is passed on
    at once.

    Raises OSError, MemoryError and, where the second decoding ends differently, InfrastructureError.
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
    """The ClipError in which a decoding ends, or one for a number of blocks other than `blocks`; None if it ends well."""
    found = 0
    try:
        for _ in decoded:
            found += 1
            if found > blocks:
                return ClipError("decode", "with more blocks")
    except ClipError as error:
        return error if found == blocks else ClipError(error.kind, f"after {found} blocks: {error}")
    return None if found == blocks else ClipError("decode", f"after {found} blocks")
