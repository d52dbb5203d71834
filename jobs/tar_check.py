"""Whether a tar can be begun with, judged by its first bytes: as TarStream judges them, at a few kilobytes per tar."""

from __future__ import annotations

from pathlib import Path

from audio_tokenizers.errors import UsageError
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_headers import BLOCK

__all__ = ["start_fault"]


def start_fault(path: Path) -> str | None:
    """Why not even the first member of a tar can be read, or None.

    It is not there, no regular file (which is never opened), not readable, or does not begin as a tar does.
    """
    try:
        stream = TarStream(path, read_bytes=BLOCK)
        try:
            stream.check_start()
        finally:
            stream.close()
    except FileNotFoundError:
        return "a link to what is not there" if path.is_symlink() else "there is no such file"
    except OSError as error:
        return error.strerror or str(error)
    except UsageError as error:
        return str(error).removeprefix(f"{path}: ")
    except TarDamage as damage:
        return str(damage)
    return None
