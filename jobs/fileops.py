"""The few file operations that results and state depend on, behind one small interface.

Tests replace FileOps to stop the world before and after each operation. All of them work on NFS and Lustre; none of them
is flock.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from audio_tokenizers.errors import InfrastructureError

__all__ = [
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
    "write_if_absent",
]

ABOUT_A_FILE = {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM}
FULL = {errno.ENOSPC, errno.EDQUOT}
AWAY = {
    *(errno.EIO, errno.EROFS, errno.ESTALE, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO, errno.ENOLINK, errno.ESHUTDOWN),
    *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}
STORAGE_WORDS = tuple(os.strerror(number) for number in (*FULL, errno.EROFS, errno.ESTALE, errno.ENOTCONN))
"""In a log they speak of a file system, where those of other numbers may speak of anything."""

TRIES = 3
"""Whoever commits a tar removes the temporary files that it finds, which may be those of a writer that is only late."""
PRIVATE_NAME = re.compile(r"\.(.+?)\.(?:[0-9a-f]{12}|[^.]+\.[0-9]+\.new|new)", re.DOTALL)
"""Of files that are written beside the one that they will become."""


StorageTrouble = Literal["full", "away"]
"""What keeps results from being written: there is no room for them, or their file system does not answer as it should."""


class StorageError(InfrastructureError):
    """Trouble with the storage of a run's results. Whoever works on that run meets it, whatever tar is in hand."""

    def __init__(self, message: str, trouble: StorageTrouble) -> None:
        super().__init__(message)
        self.trouble: StorageTrouble = trouble


class FileOps:
    """Durable operations on real files. Each method is one step that a crash may precede or follow."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist, its folder included, and open it for writing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def fsync(self, fd: int) -> None:
        """Make the file's bytes survive a power loss."""
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` in one step."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give `source` the second name `target`. Raises FileExistsError if `target` exists."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name, if it is there."""
        path.unlink(missing_ok=True)

    def fsync_dir(self, path: Path) -> None:
        """Make the folder's names survive a power loss, where the file system can."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError:  # some network file systems refuse it on folders, and order names by themselves
            pass
        finally:
            os.close(fd)


def _write_beside(ops: FileOps, path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    fd = ops.create(temporary)
    try:
        ops.write(fd, data)
        ops.fsync(fd)
    except OSError:
        with suppress(OSError):
            ops.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def write_atomically(ops: FileOps, path: Path, data: bytes) -> None:
    """Replace the file's content: a reader, and a crash, see the old bytes or the new ones."""
    for left in reversed(range(TRIES)):
        temporary = _write_beside(ops, path, data)
        try:
            ops.rename(temporary, path)
            break
        except OSError as error:
            ops.unlink(temporary)
            if not (isinstance(error, FileNotFoundError) and left):
                raise
    ops.fsync_dir(path.parent)


def write_if_absent(ops: FileOps, path: Path, data: bytes) -> bool:
    """Create the file whole, unless it exists; of several writers exactly one gets True."""
    for left in reversed(range(TRIES)):
        temporary = _write_beside(ops, path, data)
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
    """Have what is appended to a text begin on a line of its own, where a full disk has cut the last one."""
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
    """Append a line, given without its newline. Should there be no room for all of it, the next one is whole again."""
    end_last_line(path)
    _append(path, line + b"\n")


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        FileOps().write(file.fileno(), data)


def public_name(path: str | os.PathLike[str]) -> str:
    """What a person calls the file: `a/1.jsonl` for `a/.1.jsonl.0123456789ab`, a name that only its writer knows."""
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
    """Whether an OSError speaks of the machine, its storage and its limits rather than of a missing or wrong file."""
    return error.errno not in ABOUT_A_FILE


def storage_trouble(error: OSError) -> StorageTrouble | None:
    """What an OSError says of the storage it came from, if it says anything of that."""
    return "full" if error.errno in FULL else "away" if error.errno in AWAY else None


def speaks_of_storage(text: str) -> bool:
    """Whether the last words of a process say that storage is full or away."""
    return any(words in text for words in STORAGE_WORDS)


def output_error(message: str, error: OSError) -> InfrastructureError:
    """What an OSError is that came from the files of a run: trouble with its storage, or else with the machine."""
    trouble = storage_trouble(error)
    return StorageError(message, trouble) if trouble is not None else InfrastructureError(message)


@contextmanager
def output_files(what: object) -> Iterator[None]:
    """For the files of a run: raises whatever OSError as `output_error` does."""
    try:
        yield
    except OSError as error:
        raise output_error(f"{what}: {error}", error) from error


@contextmanager
def own_files(what: object) -> Iterator[None]:
    """For files that no tar is to blame for: raises whatever OSError as InfrastructureError that says what it was."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"{what}: {error}") from error
