"""A growing merged file: its bytes under a hidden name, and the log of its durable members."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from audio_tokenizers.errors import ClaimLostError
from jobs.fileops import FileOps, write_atomically
from tools.common.run_files import CommittedFile
from tools.merging.index import Entry, Header, MergePaths, encode_lines
from tools.merging.members import Made

__all__ = ["CHECKPOINT_BYTES", "Growing", "MergeOps"]

CHECKPOINT_BYTES = 256 << 20
"""Bytes of committed files between checkpoints, each of which waits for the disk: what a kill costs at most, beside the
current member."""
COPY_BYTES = 64 << 20
READ_BYTES = 1 << 20


class MergeOps(FileOps):
    """Durable operations, and one more."""

    def copy(self, fd: int, source: int, start: int, size: int) -> None:
        """Append `size` bytes of the file `source`, from byte `start` on. Its own position stays."""
        while size:
            copied = _copy_inside(fd, source, start, min(size, COPY_BYTES))
            if not copied:
                data = os.pread(source, min(size, READ_BYTES), start)
                if not data:
                    raise OSError(errno.EIO, "what is to be copied into it has become shorter")
                self.write(fd, data)
                copied = len(data)
            start += copied
            size -= copied


def _copy_inside(fd: int, source: int, start: int, size: int) -> int:
    """Bytes copied by the kernel, possibly by sharing blocks; 0 if it cannot."""
    if not hasattr(os, "copy_file_range"):  # it is Linux's
        return 0
    try:
        return os.copy_file_range(source, fd, size, offset_src=start)
    except OSError as error:
        if error.errno in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            return 0
        raise


class Growing:
    """The partial of one merge, after the members in `kept`. Only the claim's owner may make one."""

    def __init__(
        self, paths: MergePaths, header: Header, kept: Sequence[Entry], *, ops: MergeOps, checkpoint_bytes: int
    ) -> None:
        self.entries = list(kept)
        """Entries of the members in it."""
        self.size = kept[-1].end if kept else 0
        """Bytes that are valid or being written."""
        self._paths = paths
        self._header = header
        self._ops = ops
        self._checkpoint_bytes = checkpoint_bytes
        self._logged = len(kept)
        self._unlogged_bytes = 0
        self._log = -1
        self._fd = self._open()
        try:
            write_atomically(
                ops, paths.partial_index, encode_lines([header, *kept])
            )  # without a line that a crash truncated
            self._log = os.open(paths.partial_index, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        if not self.entries:
            self._remove()
            self._ops.fsync_dir(self._paths.partial.parent)  # after a power loss an old index must not meet the new partial
            return self._ops.create(self._paths.partial)
        fd = os.open(self._paths.partial, os.O_WRONLY | os.O_CLOEXEC)
        # Bytes after the valid ones are overwritten, and truncated only at the end: a writer that lost its claim without
        # knowing writes the same bytes at the same offsets, and would leave a hole after a truncation.
        os.lseek(fd, self.size, os.SEEK_SET)
        return fd

    def put(self, data: bytes) -> None:
        """Append bytes of the current member."""
        self._ops.write(self._fd, data)
        self.size += len(data)

    def copy(self, source: int, start: int, size: int) -> None:
        """Append bytes `start` to `start + size` of an open file."""
        self._ops.copy(self._fd, source, start, size)
        self.size += size

    def add(self, file: CommittedFile, made: Made) -> None:
        """End the current member."""
        self.entries.append(Entry.of(file, made, self.size))
        self._unlogged_bytes += file.bytes
        if self._unlogged_bytes >= self._checkpoint_bytes:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make all complete members durable: first their bytes, then their log."""
        if self._logged < len(self.entries):
            self._ops.fsync(self._fd)
            self._ops.write(self._log, encode_lines(self.entries[self._logged :]))
            self._logged, self._unlogged_bytes = len(self.entries), 0

    def commit(self, check_mine: Callable[[], None]) -> None:
        """Make it the output. `check_mine` raises if another merge has taken over."""
        os.ftruncate(self._fd, self.size)
        self.checkpoint()
        self._ops.fsync(self._fd)
        self._ops.fsync(self._log)
        check_mine()
        try:
            self._ops.rename(self._paths.partial, self._paths.output)
        except FileNotFoundError:
            raise ClaimLostError(f"{self._paths.output}: another merge has taken it over; this one stops") from None
        self._ops.fsync_dir(self._paths.output.parent)
        # From here on the log is the output's index, until the index is written.
        write_atomically(self._ops, self._paths.index, encode_lines([self._header, *self.entries]))
        self._ops.unlink(self._paths.partial_index)

    def keep_what_is_whole(self) -> None:
        """Close; the next attempt resumes after the last complete member, if any has a line."""
        if any(entry.lines for entry in self.entries):
            self.checkpoint()
        else:
            self._remove()

    def _remove(self) -> None:
        """Remove it: the log first, which must not meet another partial."""
        self._ops.unlink(self._paths.partial_index)
        self._ops.unlink(self._paths.partial)

    def close(self) -> None:
        """Close the files."""
        for fd in (self._fd, self._log):
            if fd >= 0:
                os.close(fd)
        self._fd = self._log = -1
