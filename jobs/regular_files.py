"""What stands where a file was expected, found out without opening it: to open a FIFO or a device may block for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from audio_tokenizers.errors import UsageError

__all__ = ["kind_of", "refuse_irregular"]

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path | str) -> str | None:
    """What `path` is, in words, if it is no regular file; None if it is one. Links are followed. Raises OSError."""
    mode = os.stat(path).st_mode  # noqa: PTH116 (text, where a list has 100,000 of them)
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def refuse_irregular(path: Path, expected: str) -> None:
    """Raise UsageError if `path` is there and is no regular file; OSError if nobody can tell."""
    found = kind_of(path)
    if found is not None:
        raise UsageError(f"{path}: expected {expected}, found {found}")
