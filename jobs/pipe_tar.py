"""A tar on a command's standard output: `pipe:COMMAND`, run by bash, from the beginning for each attempt.

It is opened only with --allow-pipe. The output counts as a tar only if the command succeeds.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.addresses import PIPE
from jobs.fileops import REMOTE_IO
from jobs.remote_files import RemoteFacts
from jobs.remote_tar import RemoteError
from jobs.scratch import scratch_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["PipeTar"]

SHELL = ("-o", "pipefail", "-c")
"""pipefail: `curl ... | gunzip` must fail if curl fails."""
PIECE_BYTES = 1 << 20
LAST_WORDS = 500


@dataclass(frozen=True, slots=True)
class PipeTar:
    """The output of a command."""

    entry: str

    def __str__(self) -> str:
        return self.entry

    @property
    def command(self) -> str:
        """The command line for bash."""
        return self.entry.removeprefix(PIPE)

    def facts(self) -> RemoteFacts:
        """All that is known before it is read: its command."""
        return RemoteFacts(0, f"command: {hashlib.sha256(self.command.encode()).hexdigest()[:16]}")

    def open(self, on_read: Callable[[], None] = lambda: None) -> PipeFile:
        """Run the command. Raises RemoteError."""
        return PipeFile(self, on_read)


class PipeFile(io.RawIOBase):
    """Reads a command's output forwards. Raises RemoteError at its end unless the command exits with 0."""

    def __init__(self, tar: PipeTar, on_read: Callable[[], None]) -> None:
        """`on_read` is called after each piece read."""
        super().__init__()
        bash = shutil.which("bash")
        if bash is None:
            raise RemoteError(REMOTE_IO, "commands are run by bash, which this machine has not", str(tar))
        self._tar = tar
        self._on_read = on_read
        self._position = 0
        self._ended = False
        self._words = scratch_file()
        self._process = subprocess.Popen(  # noqa: S603 (from the user's list, allowed with --allow-pipe)
            [bash, *SHELL, tar.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._words,
            bufsize=0,
            start_new_session=True,  # close() kills the whole process group
        )

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Forwards only, by reading."""
        return True

    def tell(self) -> int:
        """Bytes read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skip bytes forwards; returns the new position, at most the end of the output."""
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position}[whence]
        if target < self._position:
            raise io.UnsupportedOperation("the output of a command is read forwards")
        scrap = bytearray(PIECE_BYTES)
        while self._position < target:
            if not self.readinto(memoryview(scrap)[: target - self._position]):
                break
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the buffer, or at most one piece of it; less only at the end."""
        view = memoryview(buffer)[:PIECE_BYTES]
        filled = 0
        assert self._process.stdout is not None, "it has a pipe"
        while filled < len(view) and not self._ended:
            found = self._process.stdout.readinto(view[filled:])  # type: ignore[attr-defined]
            self._on_read()
            if not found:
                self._ended = True
                self._check()
            filled += found
            self._position += found
        return filled

    def _check(self) -> None:
        code = self._process.wait()
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            words = f"its command ended with {how} after {self._position:,} bytes: {self._last_words() or 'no words'}"
            raise RemoteError(REMOTE_IO, words, str(self._tar))

    def _last_words(self) -> str:
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - LAST_WORDS))
        return self._words.read().decode("utf-8", "backslashreplace").strip()

    def close(self) -> None:
        """Kill the command and its children if it still runs."""
        if self.closed:
            return
        super().close()
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:  # not reaped yet: its process id has not been reused
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._words.close()
