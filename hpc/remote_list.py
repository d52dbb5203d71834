"""Tars of a list that are no files: what has to be here to read them, and their sizes, which only their servers know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.addresses import is_pipe, scheme_of
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from jobs.remote_files import missing_packages
from jobs.tar_check import first_look
from jobs.tar_source import TarSource

__all__ = ["SizedLook", "read_sizes", "refuse_unreadable", "write_sizes"]

Sizes = dict[str, int]


def refuse_unreadable(tars: Sequence[str], *, allow_pipe: bool) -> None:
    """Raise UsageError if tars cannot be read here, whatever their servers say: a package is missing, or permission."""
    schemes = {scheme for tar in tars if (scheme := scheme_of(tar)) is not None}
    if words := missing_packages(schemes):
        raise UsageError(words)
    command = next((tar for tar in tars if is_pipe(tar)), None)
    if command is not None and not allow_pipe:
        raise UsageError(
            f"{command}: the list names a command, which workers would run as you, as often as they begin with this tar: if "
            "you trust the list, say --allow-pipe (docs/trust.md)"
        )


class SizedLook:
    """Looks at the beginnings of tars, and notes how large those at addresses are. Many threads may call it."""

    def __init__(self) -> None:
        self.sizes: Sizes = {}

    def __call__(self, source: TarSource) -> str | None:
        """Why a tar cannot be begun with, or None."""
        found = first_look(source)
        if not isinstance(source, Path) and found.bytes:
            self.sizes[str(source)] = found.bytes
        return found.fault


def read_sizes(path: Path) -> Sizes:
    """Tar -> bytes, as noted at submit. They only balance the work: without the file, or with another one, none is known."""
    try:
        return decode_json(path.read_bytes(), Sizes)
    except (OSError, msgspec.DecodeError):
        return {}


def write_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    """Note sizes, beside those known before."""
    if sizes:
        write_atomically(FileOps(), path, msgspec.json.format(msgspec.json.encode({**read_sizes(path), **sizes})))
