"""One tar to tokenize: what a worker is told of it, and which tar it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.manifest import Manifest
from jobs.pipe_tar import PipeTar
from jobs.remote_tar import RemoteTar
from jobs.tar_source import TarSource

__all__ = ["InputIdentity", "TarTask"]


class TarTask(msgspec.Struct, frozen=True):
    """One tar to tokenize, and the name of its output."""

    tar: str
    name: str
    bytes: int
    crash_clips: tuple[int, ...] = ()
    """Clips, counted from 0, that become records of kind `crash`: they are not decoded again."""
    timed_out: tuple[int, ...] = ()
    """Those of them whose records are of kind `timeout` instead."""
    one_at_a_time: bool = False
    """Write each clip's line before the next one is touched: a worker has died here, and its successor is to show where."""
    retry_errors: bool = False
    """Try its clips again that have error records."""


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """Which tar this is: a partial made from another one is of no use."""

    tar_file: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    """When its size, times, owner or names last changed. It says nothing of which tar it is: a rename changes it too."""
    version: str = ""
    """What the server of an address says in place of times: an ETag or the like."""

    @classmethod
    def of(cls, tar: TarSource) -> InputIdentity:
        """The identity of a tar on disk, or at an address now."""
        if not isinstance(tar, Path):
            return cls._told(tar)
        status = tar.stat()
        return cls(str(tar), status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @classmethod
    def _told(cls, tar: RemoteTar | PipeTar) -> InputIdentity:
        facts = tar.facts()
        return cls(str(tar), facts.size, 0, 0, facts.version)

    @classmethod
    def opened(cls, tar: TarSource) -> InputIdentity:
        """The same as its server has it now: a network file system answers `stat` from a cache, and `open` does not."""
        if not isinstance(tar, Path):
            return cls._told(tar)
        fd = os.open(tar, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return cls(str(tar), status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def written_to(self, later: InputIdentity) -> bool:
        """Whether somebody has written to the tar between this look at it and a later one.

        Then its size is another, or both its times are. One alone says less: a recall from tape, a link or another mode
        changes ctime only; a file system that keeps times coarser than its cache shows another mtime some time after the
        last write. Inodes are not compared, since some file systems make them up. No clock is asked, neither this host's nor
        the server's. Times that settle late therefore cost an attempt at most: the next one begins with what has settled.
        A tar at an address has no times, but a version.
        """
        if (self.size, self.version) != (later.size, later.version):
            return True
        return self.mtime_ns != later.mtime_ns and self.ctime_ns != later.ctime_ns

    def matches(self, manifest: Manifest) -> bool:
        """Whether `manifest` speaks of the same bytes, wherever they lay then."""
        found = (manifest.input_bytes, manifest.input_mtime_ns, manifest.input_version)
        return (self.size, self.mtime_ns, self.version) == found
