"""Temporary files that have no name, for what is too long for memory. What goes wrong with them is nobody's data's fault."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from audio_tokenizers.errors import InfrastructureError

__all__ = ["scratch_file", "scratch_trouble"]


def scratch_file() -> IO[bytes]:
    """A new file, gone when it is closed. Raises InfrastructureError."""
    with scratch_trouble():
        return tempfile.TemporaryFile()


@contextmanager
def scratch_trouble() -> Iterator[None]:
    """Raises InfrastructureError, naming the folder, where a scratch file cannot be made or written."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 (what tempfile tries last is in its words)
        raise InfrastructureError(
            f"the folder for temporary files, {folder}: {error.strerror or error}: make room there, or set TMPDIR to another"
        ) from error
