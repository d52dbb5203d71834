"""One tar to tokenize: a worker's instructions for it, options of an attempt, and which tar it is."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.manifest import Manifest
from jobs.pipe_tar import PipeTar
from jobs.remote_tar import RemoteTar
from jobs.tar_source import TarSource

__all__ = ["InputIdentity", "TarOptions", "TarTask"]


class TarTask(msgspec.Struct, frozen=True):
    """A worker's instructions for one tar."""

    tar: str
    name: str
    bytes: int
    crash_clips: tuple[int, ...] = ()
    """Clips, counted from 0, that become error records of kind `crash` without being decoded again."""
    timed_out: tuple[int, ...] = ()
    """Those among `crash_clips` whose records are of kind `timeout` instead."""
    one_at_a_time: bool = False
    """Write each clip's line before touching the next one: a worker died here, and the next death shows at which clip."""
    retry_errors: bool = False
    """Try clips with error records again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarOptions:
    """How to work on one tar."""

    retry_errors: bool = False
    """Try clips again that have error records."""
    allow_missing_end: bool = False
    """Accept a tar that lacks only its end marker."""
    allow_joined: bool = False
    """Accept several tars in one file, end to end."""
    crash_clips: Collection[int] = ()
    """Clips, from 0, that killed workers: each becomes an error record of kind `crash` without being decoded."""
    timed_out: Collection[int] = ()
    """Those of them that never finished: their records are of kind `timeout`."""
    one_at_a_time: bool = False
    """Read no clip before the previous one has its line: if the process dies, the lines show at which clip."""


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """Which tar this is. A partial that was made from another one is useless."""

    tar_file: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    """When its size, times, owner or names last changed. It does not identify the tar: a rename changes it too."""
    version: str = ""
    """For an address: its server's ETag or the like, in place of times."""

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
        """The identity as the server has it now: a network file system answers `stat` from a cache, but not `open`."""
        if not isinstance(tar, Path):
            return cls._told(tar)
        fd = os.open(tar, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        return cls(str(tar), status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def written_to(self, later: InputIdentity) -> bool:
        """Whether the tar was written to between this look at it and a later one.

        Then its size differs, or both its times do. One time alone says less: a recall from tape, a link or another mode
        changes only ctime; a file system that keeps times coarser than its cache shows another mtime some time after the
        last write. Inodes are not compared, because some file systems make them up. No clock is read, so times that settle
        late cost one attempt at most: the next one begins with the settled times. A tar at an address has a version instead
        of times.
        """
        if (self.size, self.version) != (later.size, later.version):
            return True
        return self.mtime_ns != later.mtime_ns and self.ctime_ns != later.ctime_ns

    def matches(self, manifest: Manifest) -> bool:
        """Whether `manifest` describes the same bytes, wherever they were stored then."""
        found = (manifest.input_bytes, manifest.input_mtime_ns, manifest.input_version)
        return (self.size, self.mtime_ns, self.version) == found
