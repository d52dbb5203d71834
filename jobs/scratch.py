"""Unnamed temporary files, for data too long for memory. Their errors are the machine's fault, never the data's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from audio_tokenizers.errors import InfrastructureError

__all__ = ["scratch_file", "scratch_trouble"]


def scratch_file() -> IO[bytes]:
    """A new file, deleted when it is closed. Raises InfrastructureError."""
    with scratch_trouble():
        return tempfile.TemporaryFile()


@contextmanager
def scratch_trouble() -> Iterator[None]:
    """Raise InfrastructureError, naming the folder, where a scratch file cannot be created or written."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 (tempfile's message names its last choice)
        raise InfrastructureError(
            f"the folder for temporary files, {folder}: {error.strerror or error}: make room there, or set TMPDIR to another"
        ) from error
