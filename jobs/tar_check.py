"""Whether a tar can be opened, judged by its first bytes with TarStream's rules, at a few kilobytes per tar."""

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
"""Tries at a server; few, because the user is waiting."""


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Findings from a tar's first bytes."""

    fault: str | None = None
    """Why not even its first member can be read."""
    bytes: int = 0
    """Its size; 0 if unknown."""


def first_look(source: TarSource) -> FirstLook:
    """Look at a tar's first bytes. Commands are not run for that.

    Raises InfrastructureError if a server does not answer, which says nothing about the tar.
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

    It is missing, not a regular file (and then never opened), not readable, or does not begin like a tar.
    """
    return first_look(source).fault
