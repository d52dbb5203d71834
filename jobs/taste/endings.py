"""How a process of a training ended, for the process that started it."""

from __future__ import annotations

from typing import Literal

import msgspec

from audio_tokenizers.errors import ClaimLostError, InfrastructureError, Tar2TokensError, UsageError
from jobs.fileops import StorageError, StorageTrouble, describe_error

How = Literal["finished", "stopped", "refused", "storage", "trouble", "left_alone", "lost", "died", "killed"]
"""`finished`: all epochs are done. `stopped`: it was asked to. `refused`: another try would end the same. `storage`: results
cannot be written. `trouble`: any other, perhaps with the machine. `left_alone`: another process trains in the folder.
`lost`: another rank has ended. `died`: the process crashed or had no memory. `killed`: from outside, most likely.
"""

__all__ = ["Ended", "How", "LossNotFiniteError", "LostRankError", "ended_by"]


class LossNotFiniteError(InfrastructureError):
    """The loss or its gradient is not finite. The same steps would lead there again."""


class LostRankError(InfrastructureError):
    """Another process of the training has ended, for a reason that only that one knows."""


class Ended(msgspec.Struct, frozen=True):
    """How one process ended."""

    how: How
    words: str = ""
    code: int = 0
    """The exit code."""
    storage: StorageTrouble | None = None


def ended_by(error: Exception) -> Ended:
    """How a process ends that `error` ends."""
    words = describe_error(error)
    code = error.exit_code if isinstance(error, Tar2TokensError) else 1
    if isinstance(error, StorageError):
        return Ended("storage", words, code, error.trouble)
    if isinstance(error, ClaimLostError):
        return Ended("left_alone", words, code)
    if isinstance(error, LostRankError):
        return Ended("lost", words, code)
    if isinstance(error, UsageError | LossNotFiniteError):
        return Ended("refused", words, code)
    return Ended("trouble", words, code)
