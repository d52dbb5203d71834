"""The one exception tree. A message says which file, what was expected, what was found and what to do."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "ERROR_KINDS",
    "ClaimLostError",
    "ClipError",
    "ErrorKind",
    "InfrastructureError",
    "ModelFilesError",
    "Tar2TokensError",
    "UsageError",
]

ErrorKind = Literal[
    "decode", "empty", "too_short", "too_long", "not_finite", "no_text", "segment", "backend", "crash", "timeout"
]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class Tar2TokensError(Exception):
    """Anything that a command reports in one message, without a traceback, before it exits with `exit_code`."""

    exit_code = 1


class UsageError(Tar2TokensError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class ModelFilesError(UsageError):
    """A model directory has a missing, truncated or foreign file."""


class ClipError(Tar2TokensError):
    """Bad data in one clip. It becomes a record with `error` and `error_kind`; the tar goes on."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind


class InfrastructureError(Tar2TokensError):
    """Trouble with the machine (memory, CUDA, disk): it ends the attempt and never becomes a record."""


class ClaimLostError(Tar2TokensError):
    """Another worker has taken this tar over; whatever this one still holds is void."""
