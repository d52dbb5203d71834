"""Whether a tar can be begun with, judged by its first bytes: as TarStream judges them, at a few kilobytes per tar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.pipe_tar import PipeTar
from jobs.remote_tar import REFUSED_ERRNO, RemoteError, RemoteTar
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_headers import BLOCK
from jobs.tar_source import TarSource

__all__ = ["FirstLook", "first_look", "start_fault"]

TRIES = 5
"""At an address. The user is waiting."""


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What a look at a tar's beginning has shown."""

    fault: str | None = None
    """Why not even its first member can be read."""
    bytes: int = 0
    """How large it is, where that is known."""


def first_look(source: TarSource) -> FirstLook:
    """Look at a tar's beginning; a command is not run for it.

    Raises InfrastructureError where a server cannot be asked: that says nothing of the tar.
    """
    if isinstance(source, PipeTar):
        return FirstLook()
    if isinstance(source, RemoteTar):
        source = replace(source, tries=TRIES)
    try:
        stream = TarStream(source, read_bytes=BLOCK)
        try:
            stream.check_start()
            return FirstLook(bytes=stream.bytes_on_disk)
        finally:
            stream.close()
    except (OSError, UsageError, TarDamage) as error:
        if isinstance(error, RemoteError) and error.errno != REFUSED_ERRNO:
            raise InfrastructureError(f"{source}: {error}") from error
        return FirstLook(_why_unreadable(error, source))


def _why_unreadable(error: Exception, source: TarSource) -> str:
    if isinstance(error, FileNotFoundError) and isinstance(source, Path):
        return "a link to what is not there" if source.is_symlink() else "there is no such file"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).removeprefix(f"{source}: ")


def start_fault(source: TarSource) -> str | None:
    """Why not even the first member of a tar can be read, or None.

    It is not there, no regular file (which is never opened), not readable, or does not begin as a tar does.
    """
    return first_look(source).fault
