"""A tar at an address, read through fsspec: in pieces, by range requests if the server supports them.

Transient trouble (a dropped connection, a busy server, a failed name lookup) is retried, and reading continues at the byte
where it broke. Lasting trouble raises an OSError that is blamed on the machine: it never becomes an error record or the
verdict that a tar is cut.
"""

from __future__ import annotations

import errno
import io
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from audio_tokenizers.errors import UsageError
from jobs.addresses import hide_secrets
from jobs.fileops import REMOTE_IO
from jobs.remote_files import RemoteFacts, ask, find_remote, open_remote

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["REFUSED_ERRNO", "RemoteError", "RemoteFile", "RemoteTar", "TarChangedError"]

TRIES = 8
"""Tries in a row without a byte. The pauses between them start at FIRST_PAUSE_SECONDS, double, and total a minute."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
PIECE_BYTES = 1 << 20
BLOCK_BYTES, LEAST_BLOCK_BYTES = 8 << 20, 128 << 10
"""Size of a request; and on a line where connections do not last."""
LASTING_BLOCKS = 32
"""Blocks without trouble after which the request size grows again."""
PASSING = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}
REFUSED = {401, 403, 407}
MISSING = {404, 410}
CHANGED = {412, 416}
CLIENTS = {"aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}
NETWORK_ERRORS = {"ConnectionError", "HTTPClientError", "ResponseParserError"}
"""botocore's errors: no connection, a broken one, a timeout, an invalid answer."""
REFUSED_ERRNO: int = getattr(errno, "EKEYREJECTED", getattr(errno, "EAUTH", errno.EPERM))
"""errno of a RemoteError when the server refuses the credentials."""
SAID_LETTERS = 300
T = TypeVar("T")


class RemoteError(OSError):
    """Trouble with a server, a network or credentials: blamed on the machine, not on the tar."""

    def __str__(self) -> str:
        return str(self.strerror)


class TarChangedError(UsageError):
    """The tar was replaced while it was being read."""


@dataclass(frozen=True, slots=True)
class RemoteTar:
    """A tar at an address: `s3://bucket/a.tar`, `https://host/a.tar`, `hf://datasets/owner/name/a.tar`."""

    url: str
    tries: int = TRIES

    def __str__(self) -> str:
        return self.url

    def facts(self, on_try: Callable[[], None] = lambda: None) -> RemoteFacts:
        """Ask its server. Raises FileNotFoundError and RemoteError."""
        return _persistently(lambda: ask(self.url), self, on_try)

    def matches(self) -> list[str]:
        """The addresses that match, if it is a glob; in any order. Raises RemoteError."""
        try:
            return _persistently(lambda: find_remote(self.url), self, lambda: None)
        except FileNotFoundError:
            return []

    def open(self, on_read: Callable[[], None] = lambda: None) -> RemoteFile:
        """Open its bytes. Opening and reading raise FileNotFoundError and RemoteError, reading also TarChangedError."""
        return RemoteFile(self, on_read)


class RemoteFile(io.RawIOBase):
    """Reads a remote tar from any position. `size` is its size in bytes."""

    def __init__(self, tar: RemoteTar, on_read: Callable[[], None]) -> None:
        """`on_read` is called after each piece read, and at each retry."""
        super().__init__()
        self._tar = tar
        self._on_read = on_read
        self._facts = tar.facts(on_read)
        self._position = 0
        self._file: IO[bytes] | None = None
        self._at = 0
        """Position of `_file`."""
        self._block = BLOCK_BYTES
        self._lasted = 0
        """Bytes received since it was opened."""
        self._streams = not self._facts.ranges
        self._checked = True
        """Whether the connection has held since the server last confirmed the tar's version."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self._facts.size

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always: by ranges, or by reading and discarding."""
        return True

    def tell(self) -> int:
        """Position of the next byte to read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; costs nothing until the next read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        """Read into the buffer, at most one piece."""
        view = memoryview(buffer)[: max(0, min(PIECE_BYTES, self.size - self._position))]
        if not view:
            return 0
        data = _persistently(lambda: self._piece(len(view)), self._tar, self._on_read)
        view[: len(data)] = data
        self._position += len(data)
        self._on_read()
        return len(data)

    def _piece(self, size: int) -> bytes:
        try:
            self._reach()
            data = self._next(min(size, self._block))
        except BaseException as error:
            self._drop()
            if _status(error)[0] is None:
                self._block = max(LEAST_BLOCK_BYTES, self._block // 4)
            raise
        if not data:
            self._drop()
            raise ConnectionResetError(errno.ECONNRESET, f"the connection ended at byte {self._position:,} of {self.size:,}")
        self._lasted += len(data)
        if self._block < BLOCK_BYTES and self._lasted > LASTING_BLOCKS * self._block:
            self._drop()
            self._block *= 4
        return data

    def _reach(self) -> None:
        """Make sure that a connection delivers the bytes from the position on."""
        if not self._checked:
            if ask(self._tar.url) != self._facts:
                raise _changed(self._tar.url)
            self._checked = True
        if self._file is None or (self._streams and self._at > self._position):
            self._drop()
            self._checked = True
            self._lasted = 0
            self._file, self._at = open_remote(self._tar.url, self._facts.size, 0 if self._streams else self._block), 0
        if self._streams:
            while self._at < self._position:
                if not self._next(min(PIECE_BYTES, self._position - self._at)):
                    raise ConnectionResetError(errno.ECONNRESET, f"the connection ended at byte {self._at:,}")
                self._on_read()
        elif self._at != self._position:
            self._at = self._file.seek(self._position)

    def _next(self, size: int) -> bytes:
        assert self._file is not None, "there is a connection"
        try:
            data = self._file.read(size)
        except ValueError:  # fsspec: the server ignores ranges and sends the whole file
            if self._streams or not self._tar.url.startswith("http"):
                raise
            self._streams = True
            self._drop()
            self._reach()
            return self._next(size)
        self._at += len(data)
        return data

    def _drop(self) -> None:
        file, self._file, self._checked = self._file, None, False
        if file is not None:
            with suppress(Exception):  # it may be broken
                file.close()

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        super().close()


def _persistently(action: Callable[[], T], tar: RemoteTar, on_try: Callable[[], None]) -> T:
    """Run `action`, retrying transient trouble. Raises lasting trouble, with a message that hides secrets."""
    for tried in range(1, tar.tries + 1):
        on_try()
        try:
            return action()
        except (MemoryError, UsageError):
            raise
        except Exception as error:
            trouble, passes = _judged(error, tar.url)
            if not passes:
                raise trouble from error
            if tried == tar.tries:
                words = f"{trouble}; {tried} tries in a row ended so: is the network well?"
                raise RemoteError(REMOTE_IO, words, tar.url) from error
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (tried - 1))
        time.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 (jitter: many workers must not retry at once)
    raise AssertionError("the last try returns or raises")


def _judged(error: Exception, url: str) -> tuple[Exception, bool]:
    """(our error for a library's error, whether it is transient)."""
    status, speaks = _status(error)
    said = " ".join(hide_secrets(str(speaks)).split())[:SAID_LETTERS] or type(speaks).__name__
    if status in CHANGED or type(error).__name__ == "FileExpired":
        return _changed(url), False
    if status in REFUSED or (status is None and isinstance(error, PermissionError)):
        words = (
            f"the server refuses access ({status or 403}): {said}; are there credentials, for workers too, still valid ones?"
        )
        if url.startswith("s3:"):
            words += " S3 says this of a key that does not exist, too, where listing is not allowed"
        return RemoteError(REFUSED_ERRNO, words, url), False
    if status in MISSING or (status is None and isinstance(error, FileNotFoundError) and error.__cause__ is None):
        return FileNotFoundError(errno.ENOENT, f"there is nothing at this address ({status or 404})", url), False
    words = f"the server does not give it ({status}): {said}" if status else f"it cannot be read: {said}"
    passes = status in PASSING if status else any(map(_is_of_network, _chain(error)))
    return RemoteError(REMOTE_IO, words, url), passes


def _changed(url: str) -> TarChangedError:
    return TarChangedError(f"{url}: it was written to while it was read; once that is over, try again")


def _is_of_network(error: BaseException) -> bool:
    if isinstance(error, OSError | EOFError):
        return True
    kinds = type(error).__mro__
    return any(kind.__module__.partition(".")[0] in CLIENTS or kind.__name__ in NETWORK_ERRORS for kind in kinds)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(8):
        if one is None:
            return
        yield one
        one = one.__cause__


def _status(error: BaseException) -> tuple[int | None, BaseException]:
    """(HTTP status, the error that has it): an error of aiohttp, botocore or the hub's library, or one in its chain."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        told = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, Mapping) else None
        for status in (getattr(one, "status", None), told, getattr(response, "status_code", None)):
            if isinstance(status, int) and 100 <= status < 600:
                return status, one
    return None, error.__cause__ or error
