"""The few file operations that results and state depend on, behind one small interface.

Tests replace FileOps to stop before and after each operation. All operations work on NFS and Lustre; flock is not used.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from audio_tokenizers.errors import InfrastructureError

__all__ = [
    "REMOTE_IO",
    "FileOps",
    "StorageError",
    "StorageTrouble",
    "append_line",
    "describe_error",
    "end_last_line",
    "is_disk_trouble",
    "output_error",
    "output_files",
    "own_files",
    "public_name",
    "speaks_of_storage",
    "storage_trouble",
    "write_atomically",
    "write_atomically_with",
    "write_if_absent",
]

ABOUT_A_FILE = {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
REMOTE_IO: int = getattr(errno, "EREMOTEIO", errno.EIO)
"""errno of trouble at a server; Linux alone has a number for it."""
FULL = {errno.ENOSPC, errno.EDQUOT}
AWAY = {
    *(errno.EIO, errno.EROFS, errno.ESTALE, REMOTE_IO, errno.ENODEV, errno.ENXIO, errno.ENOLINK, errno.ESHUTDOWN),
    *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}
STORAGE_WORDS = tuple(os.strerror(number) for number in (*FULL, errno.EROFS, errno.ESTALE, errno.ENOTCONN))
"""Messages that in a log are about a file system; those of other numbers may be about anything."""

TRIES = 3
"""A commit removes the tar's temporary files, which may belong to a writer that is only late."""
PRIVATE_NAME = re.compile(r"\.(.+?)\.(?:[0-9a-f]{12}|[^.]+\.[0-9]+\.new|new)", re.DOTALL)
"""Names of files that are written beside the file that they will replace."""


StorageTrouble = Literal["full", "away"]
"""Why results cannot be written: no room, or a file system that does not answer properly."""


class StorageError(InfrastructureError):
    """Trouble with the storage of a run's results, which every worker of the run meets with every tar."""

    def __init__(self, message: str, trouble: StorageTrouble) -> None:
        super().__init__(message)
        self.trouble: StorageTrouble = trouble


class FileOps:
    """Durable operations on real files. A crash may come before or after each method, never within one."""

    def create(self, path: Path) -> int:
        """Create a new file, and its folder if needed, and open it for writing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def fsync(self, fd: int) -> None:
        """Make the file's bytes durable."""
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source`, atomically."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give `source` the second name `target`. Raises FileExistsError if `target` exists."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name, if it exists."""
        path.unlink(missing_ok=True)

    def fsync_dir(self, path: Path) -> None:
        """Make the folder's names durable, if the file system can."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError:  # some network file systems refuse it on folders, and order names by themselves
            pass
        finally:
            os.close(fd)


def _write_beside(ops: FileOps, path: Path, write: Callable[[int], None]) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    fd = ops.create(temporary)
    try:
        write(fd)
        ops.fsync(fd)
    except OSError:
        with suppress(OSError):
            ops.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def write_atomically(ops: FileOps, path: Path, data: bytes) -> None:
    """Replace the file's content: readers and crashes see the old bytes or the new ones."""
    write_atomically_with(ops, path, lambda fd: ops.write(fd, data))


def write_atomically_with(ops: FileOps, path: Path, write: Callable[[int], None]) -> None:
    """As write_atomically, with what `write` writes to a file descriptor. It may be called again."""
    for left in reversed(range(TRIES)):
        temporary = _write_beside(ops, path, write)
        try:
            ops.rename(temporary, path)
            break
        except OSError as error:
            ops.unlink(temporary)
            if not (isinstance(error, FileNotFoundError) and left):
                raise
    ops.fsync_dir(path.parent)


def write_if_absent(ops: FileOps, path: Path, data: bytes) -> bool:
    """Create the file with all its content, unless it exists. Of several writers exactly one gets True."""
    for left in reversed(range(TRIES)):
        temporary = _write_beside(ops, path, lambda fd: ops.write(fd, data))
        try:
            ops.link(temporary, path)
            break
        except FileExistsError:
            return False
        except FileNotFoundError:
            if not left:
                raise
        finally:
            ops.unlink(temporary)
    ops.fsync_dir(path.parent)
    return True


def end_last_line(path: Path) -> None:
    """End a last line that a full disk has cut, so that the next one begins on its own line."""
    with suppress(FileNotFoundError):
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) and status.st_size):  # a terminal or a pipe would be waited for
            return
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            whole = file.read(1) == b"\n"
        if not whole:
            _append(path, b"\n")


def append_line(path: Path, line: bytes) -> None:
    """Append a line, given without its newline. If there is no room for all of it, the next line is still whole."""
    end_last_line(path)
    _append(path, line + b"\n")


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        FileOps().write(file.fileno(), data)


def public_name(path: str | os.PathLike[str]) -> str:
    """The file's name for messages: `a/1.jsonl` for the private name `a/.1.jsonl.0123456789ab`."""
    folder, slash, name = os.fsdecode(path).rpartition("/")
    match = PRIVATE_NAME.fullmatch(name)
    return f"{folder}{slash}{match[1] if match else name}"


def describe_error(error: BaseException, file: str = "") -> str:
    """`FILE: reason` for an OSError, with `file` where it names none itself; the message of any other error."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if not isinstance(error, OSError):
        return str(error)
    named = error.filename if isinstance(error.filename, str | bytes) else ""  # and no descriptor
    reason = error.strerror or str(error)
    return f"{public_name(os.fsdecode(named or file))}: {reason}" if named or file else reason


def is_disk_trouble(error: OSError) -> bool:
    """Whether an OSError is about the machine, its storage and its limits, and not about a missing or wrong file."""
    return error.errno not in ABOUT_A_FILE


def storage_trouble(error: OSError) -> StorageTrouble | None:
    """The storage trouble that an OSError reports, if any."""
    return "full" if error.errno in FULL else "away" if error.errno in AWAY else None


def speaks_of_storage(text: str) -> bool:
    """Whether the last output of a process says that storage is full or away."""
    return any(words in text for words in STORAGE_WORDS)


def output_error(message: str, error: OSError) -> InfrastructureError:
    """The exception for an OSError from a run's files: trouble with the storage, or else with the machine."""
    trouble = storage_trouble(error)
    return StorageError(message, trouble) if trouble is not None else InfrastructureError(message)


@contextmanager
def output_files(what: object) -> Iterator[None]:
    """For the files of a run: any OSError becomes the exception of `output_error`."""
    try:
        yield
    except OSError as error:
        raise output_error(f"{what}: {error}", error) from error


@contextmanager
def own_files(what: object) -> Iterator[None]:
    """For files that no tar is to blame for: any OSError becomes an InfrastructureError that names `what`."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"{what}: {error}") from error
