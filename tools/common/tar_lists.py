"""Lists of tars for the next command, which never overwrite a file of the user's.

A list replaces a file only if this run wrote it and it has not changed since: the run folder remembers path and hash. The
list itself has no mark, since scripts loop over its lines.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.run import Run
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from tools.common.file_hash import hash_file

__all__ = ["Listing", "Written", "beside", "check_targets", "notes_of", "refuse_kept", "write_lists", "write_where_told"]

READER_SECONDS = 5.0
"""How long to wait for a reader of a pipe."""
PAUSE_SECONDS = 0.05
LISTS_KEPT = 256

Memory = dict[str, list[str]]


@dataclass(frozen=True)
class Listing:
    """A list to write."""

    what: str
    """`Remaining`."""
    path: Path
    tars: Sequence[str]
    option: str
    """The option that sets its path."""
    asked: bool
    """The user named the path."""


@dataclass(frozen=True)
class Written:
    """The result of writing a list."""

    listing: Listing
    holds: bool
    """The file exists with exactly these tars."""
    kept: bool = False
    """Another file is there, and stays."""
    note: str = ""
    """A message for the user."""

    @property
    def useful(self) -> bool:
        """Whether there is a list to be used."""
        return self.holds and bool(self.listing.tars)


def beside(path: Path, name: str) -> Path | None:
    """The path of a second list in the folder of `path`. None if `path` is a pipe or a device, whose folder is no place for
    lists, or a folder, which is refused.
    """
    return None if _is_stream(path) or path.is_dir() else path.with_name(name)


def check_targets(run: Run, sources: Sequence[Path], targets: Sequence[tuple[str, Path]]) -> None:
    """Raise UsageError if a list, given as (option, path), would overwrite an input of this command or another list.

    Even with --force, a run's own files and the checked list are never replaced.
    """
    taken = {os.path.realpath(source) for source in sources}
    for option, path in targets:
        if _is_stream(path):
            continue
        target = os.path.realpath(path)
        ours = Path(target).is_relative_to(os.path.realpath(run.folder))
        if ours or target in taken or any(_same_file(target, source) for source in sources):
            raise UsageError(f"{path}: this file is in use already: give {option} another name")
        taken.add(target)


def write_lists(run: Run, listings: Sequence[Listing], *, force: bool, ops: FileOps | None = None) -> list[Written]:
    """Write each list unless it would overwrite a foreign file; an empty one only over an earlier list, or if asked."""
    return [_write(run, listing, force=force, ops=ops or FileOps()) for listing in listings]


def write_where_told(path: Path, data: bytes, ops: FileOps) -> None:
    """Write to a path that the user named: over an existing file, through links, or into a pipe or a device."""
    if _is_stream(path):
        _stream(path, data)
    else:
        write_atomically(ops, Path(os.path.realpath(path)), data)


def notes_of(written: Sequence[Written]) -> list[str]:
    """Messages for the user, except those that `refuse_kept` raises."""
    return [each.note for each in written if each.note and not (each.kept and each.listing.asked)]


def refuse_kept(written: Sequence[Written]) -> None:
    """Raise UsageError if a file that the user named was not overwritten."""
    notes = [each.note for each in written if each.kept and each.listing.asked]
    if notes:
        raise UsageError("; ".join(notes))


def _write(run: Run, listing: Listing, *, force: bool, ops: FileOps) -> Written:
    data = "".join(f"{tar}\n" for tar in listing.tars).encode()
    path = listing.path
    try:
        if _is_stream(path):
            _stream(path, data)
            return Written(listing, holds=False)
        if not path.is_dir():
            return _write_file(run, listing, data, force=force, ops=ops)
    except OSError as error:
        note = f"{path}: the list could not be written: {error.strerror}: {listing.option} writes elsewhere"
        return Written(listing, holds=False, note=note)
    note = f"{path}: a folder is no place for a list: give {listing.option} another name"
    return Written(listing, holds=False, kept=True, note=note)


def _write_file(run: Run, listing: Listing, data: bytes, *, force: bool, ops: FileOps) -> Written:
    path = listing.path
    target = Path(os.path.realpath(path))  # a link stays a link
    memory = _read_memory(run)
    found, wanted = _sha256(target), hashlib.sha256(data).hexdigest()
    if found == wanted or (found is None and not data and not listing.asked):
        return Written(listing, holds=True)
    ours = found is not None and found in memory.get(str(target), [])
    if found is not None and not ours and not force:
        note = (
            f"{path}: left as it is: this run did not write it, or it has changed since: "
            f"--force replaces it, {listing.option} writes elsewhere"
        )
        return Written(listing, holds=False, kept=True, note=note)
    noted = _remember(run, memory, target, [found, wanted] if ours else [wanted], ops)
    write_atomically(ops, target, data)
    if noted:
        return Written(listing, holds=True)
    note = f"{path}: written, but {run.folder} cannot remember it: the next command needs --force for it"
    return Written(listing, holds=True, note=note)


def _is_stream(path: Path) -> bool:
    """Whether to write into it, as into a pipe or /dev/null, instead of replacing it."""
    try:
        there = path.stat()
    except OSError:
        return False
    if stat.S_ISREG(there.st_mode):
        return _own_output(there) is not None
    return not stat.S_ISDIR(there.st_mode)


def _own_output(there: os.stat_result) -> int | None:
    """The descriptor of this command's own output, if it is that: /dev/stdout may be a file."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stream may have no descriptor
            if os.path.samestat(there, os.fstat(stream.fileno())):
                return stream.fileno()
    return None


def _stream(path: Path, data: bytes) -> None:
    own = _own_output(path.stat())
    if own is not None:
        sys.stdout.flush()
        FileOps().write(own, data)
        return
    fd = _open_pipe(path)
    try:
        os.set_blocking(fd, True)
        FileOps().write(fd, data)
    finally:
        os.close(fd)


def _open_pipe(path: Path) -> int:
    until = time.monotonic() + READER_SECONDS
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > until:  # no reader yet
                raise
        time.sleep(PAUSE_SECONDS)


def _same_file(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


def _sha256(path: Path) -> str | None:
    """Hash of a file; None if there is none."""
    try:
        return hash_file(path)
    except FileNotFoundError:
        return None


def _read_memory(run: Run) -> Memory:
    """Path -> hashes of what this run wrote there, latest last. Empty if unreadable: every file then counts as foreign."""
    try:
        return decode_json(run.lists_file.read_bytes(), Memory)
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(run: Run, memory: Memory, target: Path, hashes: Sequence[str | None], ops: FileOps) -> bool:
    """Remember the hashes before and after the write: a killed command leaves one of them.

    False if there is no run folder yet, or it cannot be written.
    """
    if not run.folder.is_dir():
        return False
    memory.pop(str(target), None)
    memory[str(target)] = [sha256 for sha256 in hashes if sha256 is not None]
    newest = dict(list(memory.items())[-LISTS_KEPT:])
    try:
        write_atomically(ops, run.lists_file, msgspec.json.format(msgspec.json.encode(newest)))
    except OSError:
        return False
    return True
