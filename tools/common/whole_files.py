"""Large files that appear whole or not at all, and the cleanup of what killed commands left."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audio_tokenizers.errors import UsageError
from jobs.fileops import FileOps

__all__ = ["replacing", "replacing_folder", "require_file_place", "scratch_folder", "sweep", "unmade_if_it_fails"]

PRIVATE = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<pid>[0-9]+)\.new")
FORGOTTEN_SECONDS = 24 * 3600.0
"""A private file of another machine counts as abandoned after this time without a change, by the file system's clock."""


def _private(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.new")


def _host() -> str:
    return socket.gethostname().replace(".", "-").replace("/", "-") or "localhost"


def require_file_place(path: Path) -> None:
    """Raise UsageError if `path` is something that a file must not replace: a device, a pipe or a folder."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(kind):
        found = "a folder" if stat.S_ISDIR(kind) else "a pipe" if stat.S_ISFIFO(kind) else "a device"
        raise UsageError(f"{path}: expected the name of a file, found {found} there: give another")


@contextmanager
def replacing(path: Path, ops: FileOps | None = None) -> Iterator[Path]:
    """Gives a private path to write to; at the end of the block that file becomes `path`, durably and in one step.

    An exception leaves `path` as it was. Two processes may do this at once: the later one's file stays.
    """
    ops = ops or FileOps()
    path.parent.mkdir(parents=True, exist_ok=True)
    private = _private(path)
    try:
        yield private
        fd = os.open(private, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ops.fsync(fd)
        finally:
            os.close(fd)
        ops.rename(private, path)
    except BaseException:
        with suppress(OSError):
            private.unlink(missing_ok=True)
        raise
    ops.fsync_dir(path.parent)


@contextmanager
def replacing_folder(path: Path, ops: FileOps | None = None) -> Iterator[Path]:
    """The same for a new folder. If another process makes it first, that one stays."""
    ops = ops or FileOps()
    path.parent.mkdir(parents=True, exist_ok=True)
    private = _private(path)
    shutil.rmtree(private, ignore_errors=True)
    private.mkdir()
    try:
        yield private
        os.sync()  # one call for what may be a hundred thousand small files
        try:
            ops.rename(private, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(private, ignore_errors=True)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    ops.fsync_dir(path.parent)


@contextmanager
def unmade_if_it_fails(path: Path) -> Iterator[None]:
    """If the block raises, remove the folders that it made down to `path`, if they are empty."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder below `parent` for temporary files. Removes those of dead processes."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    private = _private(parent / "scratch")
    shutil.rmtree(private, ignore_errors=True)
    private.mkdir()
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove private files and folders in `folder` of dead processes, and of other machines after a day without a change."""
    for path in folder.glob(".*.new"):
        match = PRIVATE.fullmatch(path.name)
        if match is not None and _abandoned(path, match["host"], int(match["pid"])):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _abandoned(path: Path, host: str, pid: int) -> bool:
    if host == _host():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return pid == os.getpid()
    try:
        return time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS
    except OSError:
        return False
