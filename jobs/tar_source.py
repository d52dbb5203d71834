"""Sources of tars: a file, an address or a command. Each opens as a stream of bytes that is read forwards."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.addresses import is_address, is_pipe
from jobs.pipe_tar import PipeTar
from jobs.regular_files import refuse_irregular
from jobs.remote_tar import RemoteTar

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["READ_BYTES", "TarSource", "bytes_of", "open_tar", "tar_source"]

READ_BYTES = 1 << 20
TarSource: TypeAlias = Path | RemoteTar | PipeTar


def tar_source(tar: str, *, allow_pipe: bool = False) -> TarSource:
    """The source of a list's tar. Raises UsageError for a command that is not allowed."""
    if is_pipe(tar):
        if not allow_pipe:
            raise UsageError(
                f"{tar}: a command; {called('hpc.submit')} and {called('jobs.tokenize_tar')} run it with --allow-pipe, "
                "other programs never do: write its output into a file"
            )
        return PipeTar(tar)
    return RemoteTar(tar) if is_address(tar) else Path(tar)


def bytes_of(source: TarSource) -> int:
    """Its size; 0 for a command's output, whose size is unknown. Raises OSError."""
    return source.stat().st_size if isinstance(source, Path) else source.facts().size


class _LocalFile(io.FileIO):
    """Reads at most READ_BYTES at a time, and reports each read."""

    def __init__(self, path: Path, on_read: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_read = on_read

    def readinto(self, buffer: Buffer, /) -> int:
        found = super().readinto(memoryview(buffer)[:READ_BYTES])
        self._on_read()
        return found


def open_tar(source: TarSource, read_bytes: int, on_read: Callable[[], None]) -> tuple[IO[bytes], int]:
    """(the tar's bytes, buffered by `read_bytes`; their number, or a larger number if it is unknown).

    `on_read` is called after each read. Raises UsageError (not a regular file) and OSError.
    """
    if isinstance(source, Path):
        refuse_irregular(source, "a tar")
        local = _LocalFile(source, on_read)
        return io.BufferedReader(local, read_bytes), os.fstat(local.fileno()).st_size
    if isinstance(source, PipeTar):
        return io.BufferedReader(source.open(on_read), read_bytes), sys.maxsize
    remote = source.open(on_read)
    return io.BufferedReader(remote, read_bytes), remote.size
