"""Check for regular files without opening them: opening a FIFO or a device may block forever."""

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
    """Describe `path` if it is not a regular file; None if it is. Links are followed. Raises OSError."""
    mode = os.stat(path).st_mode  # noqa: PTH116 (str paths: a list may have 100,000)
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def refuse_irregular(path: Path, expected: str) -> None:
    """Raise UsageError if `path` exists and is not a regular file; OSError if that cannot be determined."""
    found = kind_of(path)
    if found is not None:
        raise UsageError(f"{path}: expected {expected}, found {found}")
