"""Tars of a list that are not files: what is needed to read them, and their sizes, which only their servers know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.wording import counted
from hpc.list_check import describe_faults, find_faults
from jobs.addresses import is_pipe, scheme_of
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from jobs.remote_files import missing_packages
from jobs.remote_tar import RemoteTar
from jobs.tar_check import first_look
from jobs.tar_source import TarSource

__all__ = ["SizedLook", "all_faults", "changed_at_servers", "read_sizes", "unreadable", "write_sizes"]

Sizes = dict[str, int]

TRIES = 2
"""Tries at a server to find out whether a tar has changed."""


def unreadable(tars: Sequence[str], *, allow_pipe: bool) -> list[str]:
    """Why tars cannot be read here, whatever their servers say: a missing package, or no permission to run commands."""
    found = []
    if words := missing_packages({scheme for tar in tars if (scheme := scheme_of(tar)) is not None}):
        found.append(words)
    command = next((tar for tar in tars if is_pipe(tar)), None)
    if command is not None and not allow_pipe:
        found.append(
            f"{command}: the list names a command, which workers would run as you, as often as they begin with this tar: if "
            "you trust the list, say --allow-pipe (docs/trust.md)"
        )
    return found


def all_faults(tars: Sequence[str], *, allow_pipe: bool, known: Collection[str] = ()) -> list[str]:
    """Faults of tars, for one message together with other faults of their list.

    Checks those that can be read here and are not `known` to the run.
    """
    found = unreadable(tars, allow_pipe=allow_pipe)
    new = [tar for tar in tars if tar not in known and not missing_packages({scheme_of(tar) or ""})]
    try:
        faults = find_faults(new)
    except InfrastructureError as error:
        return [*found, f"not all of the others could be looked at: {error}"]
    return [*found, *([describe_faults(faults, len(tars))] if faults else [])]


def changed_at_servers(sizes: Mapping[str, int]) -> tuple[dict[str, str], int]:
    """(tar -> message for those whose size has changed, number of tars whose servers do not answer).

    `sizes`: committed tars at addresses, with their sizes then. A missing tar has not changed. Only the size counts, as for
    files: versions change with copies, too.
    """
    asked = [tar for tar in sizes if not missing_packages({scheme_of(tar) or ""})]
    vain: list[str] = []

    def look(source: TarSource) -> str | None:
        assert isinstance(source, RemoteTar), "commands have no size"
        tar, size = str(source), sizes[str(source)]
        try:
            now = replace(source, tries=TRIES).facts().size
        except FileNotFoundError:
            return None
        except (OSError, UsageError):
            vain.append(tar)
            return None
        return None if now == size else f"{tar} has changed since: it had {counted(size, 'byte')} then, and has {now:,} now"

    try:
        found = find_faults(asked, look)
    except InfrastructureError:  # no server answers
        return {}, len(sizes)
    return found, len(sizes) - len(asked) + len(vain)


class SizedLook:
    """Checks the beginnings of tars, and records the sizes of those at addresses. Thread-safe."""

    def __init__(self) -> None:
        self.sizes: Sizes = {}

    def __call__(self, source: TarSource) -> str | None:
        """Why a tar cannot be opened, or None."""
        found = first_look(source)
        if not isinstance(source, Path) and found.bytes:
            self.sizes[str(source)] = found.bytes
        return found.fault


def read_sizes(path: Path) -> Sizes:
    """Tar -> bytes, as recorded at submit. They only balance the work: empty if the file is missing or invalid."""
    try:
        return decode_json(path.read_bytes(), Sizes)
    except (OSError, msgspec.DecodeError):
        return {}


def write_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    """Add sizes to those recorded before."""
    if sizes:
        write_atomically(FileOps(), path, msgspec.json.format(msgspec.json.encode({**read_sizes(path), **sizes})))
