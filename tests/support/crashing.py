"""File operations that stop the world, and that can lose what a power failure loses."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobs.fileops import FileOps

Result = TypeVar("Result")


class SimulatedCrash(BaseException):
    """The process is gone: no handler may do anything durable any more."""


class CrashingOps(FileOps):
    """Counts operations and dies at one of them, before it or after it; from then on every operation dies."""

    def __init__(self, crash_at: int | None = None, *, after: bool = False) -> None:
        self.count = 0
        self._crash_at = crash_at
        self._after = after
        self.dead = False

    def _step(self, run: Callable[[], Result]) -> Result:
        if self.dead:
            raise SimulatedCrash
        dies = self.count == self._crash_at
        self.count += 1
        if dies and not self._after:
            self.dead = True
            raise SimulatedCrash
        result = run()
        if dies:
            self.dead = True
            raise SimulatedCrash
        return result

    def create(self, path: Path) -> int:
        return self._step(lambda: super(CrashingOps, self).create(path))

    def write(self, fd: int, data: bytes) -> None:
        self._step(lambda: super(CrashingOps, self).write(fd, data))

    def fsync(self, fd: int) -> None:
        self._step(lambda: super(CrashingOps, self).fsync(fd))

    def rename(self, source: Path, target: Path) -> None:
        self._step(lambda: super(CrashingOps, self).rename(source, target))

    def link(self, source: Path, target: Path) -> None:
        self._step(lambda: super(CrashingOps, self).link(source, target))

    def unlink(self, path: Path) -> None:
        self._step(lambda: super(CrashingOps, self).unlink(path))

    def fsync_dir(self, path: Path) -> None:
        self._step(lambda: super(CrashingOps, self).fsync_dir(path))


class RefusingOps(CrashingOps):
    """Refuses one of its operations, counted from 0, with an errno; the others go well."""

    def __init__(self, refuse_at: int, number: int) -> None:
        super().__init__()
        self._refuse_at, self._number = refuse_at, number

    def _step(self, run: Callable[[], Result]) -> Result:
        self.count += 1
        if self.count == self._refuse_at + 1:
            raise OSError(self._number, os.strerror(self._number))
        return run()


@dataclass
class Renamed:
    """A rename that no fsync of its folder has made durable."""

    source: Path
    target: Path
    kept: Path | None
    """A second name of what was at `target` before."""


class PowerLossOps(CrashingOps):
    """Dies like CrashingOps; `lose_power` then takes back what no fsync had made durable.

    Bytes written since a file's last fsync are cut off, wholly or in part; names changed since the folder's last fsync
    may be what they were before, latest first.
    """

    def __init__(self, crash_at: int | None, *, after: bool, seed: int) -> None:
        super().__init__(crash_at, after=after)
        self._random = random.Random(seed)
        self._durable: dict[int, tuple[int, int]] = {}  # inode -> (bytes, a descriptor of our own)
        self._renamed: list[Renamed] = []

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._durable[os.fstat(fd).st_ino] = (0, os.dup(fd))
        return fd

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        status = os.fstat(fd)
        self._durable[status.st_ino] = (status.st_size, self._durable[status.st_ino][1])

    def rename(self, source: Path, target: Path) -> None:
        kept = None
        if target.exists() and not self.dead:
            kept = target.with_name(f"..kept-{self.count}-{target.name}")
            os.link(target, kept)
        self._renamed.append(Renamed(source, target, kept))
        try:
            super().rename(source, target)
        except SimulatedCrash:
            if source.exists():  # it died before
                self._forget(self._renamed.pop())
            raise

    def fsync_dir(self, path: Path) -> None:
        super().fsync_dir(path)
        for renamed in [r for r in self._renamed if r.target.parent == path]:
            self._renamed.remove(renamed)
            self._forget(renamed)

    @staticmethod
    def _forget(renamed: Renamed) -> None:
        if renamed.kept is not None:
            renamed.kept.unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Leave what the disk holds when the machine comes back."""
        undone = self._random.randint(0, len(self._renamed))
        for renamed in reversed(self._renamed):
            if undone > 0 and renamed.target.exists():
                renamed.target.rename(renamed.source)
                if renamed.kept is not None:
                    renamed.kept.rename(renamed.target)
            undone -= 1
            self._forget(renamed)
        for durable, fd in self._durable.values():
            size = os.fstat(fd).st_size
            if size > durable:
                os.ftruncate(fd, self._random.randint(durable, size))
            os.close(fd)
