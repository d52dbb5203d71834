"""Two attempts at one tar that take turns at any file operation, one of which sees what it wants to see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from audio_tokenizers.errors import ClaimLostError
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.manifest import Manifest

Result = TypeVar("Result")


class HaltingOps(FileOps):
    """Counts the operations that others can see, and waits before one of them until `go` is set. Nothing is synced."""

    def __init__(self, halt_at: int | None = None) -> None:
        self.count = 0
        self._halt_at = halt_at
        self.halted = threading.Event()
        self.go = threading.Event()

    def _step(self, run: Callable[[], Result]) -> Result:
        if self.count == self._halt_at:
            self.halted.set()
            self.go.wait()
        self.count += 1
        return run()

    def create(self, path: Path) -> int:
        return self._step(lambda: super(HaltingOps, self).create(path))

    def write(self, fd: int, data: bytes) -> None:
        self._step(lambda: super(HaltingOps, self).write(fd, data))

    def rename(self, source: Path, target: Path) -> None:
        self._step(lambda: super(HaltingOps, self).rename(source, target))

    def link(self, source: Path, target: Path) -> None:
        self._step(lambda: super(HaltingOps, self).link(source, target))

    def unlink(self, path: Path) -> None:
        self._step(lambda: super(HaltingOps, self).unlink(path))

    def fsync(self, fd: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


class Zombie(Ledger):
    """Whatever happens, it sees its own claim, its own partial, no committed file and no trace of others."""

    def _check_mine(self) -> None:
        pass

    def _is_committed(self) -> bool:
        return False

    def _is_published(self) -> bool:
        return True

    def _what_is_known(self, *, committed: bool) -> Manifest | None:
        return None

    def _sweep_up(self) -> None:
        pass


class SweepingZombie(Zombie):
    """It sees the private names of others, and takes them for those of the dead; and it knows the partial to be good."""

    def _what_is_known(self, *, committed: bool) -> Manifest | None:
        return Ledger._what_is_known(self, committed=committed)

    def _sweep_up(self) -> None:
        Ledger._sweep_up(self)


class NearSighted(Ledger):
    """A rightful successor that is shown an old list of the folder: it does not find the names of those before."""

    def _sweep_up(self) -> None:
        pass


class Actor:
    """An attempt in a thread of its own, which `start` runs until it halts or ends, and `finish` to its end."""

    def __init__(self, ops: HaltingOps, attempt: Callable[[HaltingOps], None]) -> None:
        self._ops = ops
        self._attempt = attempt
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._attempt(self._ops)
        except ClaimLostError:
            pass
        except Exception as error:  # noqa: BLE001 (`finish` raises it)
            self._trouble = error
        finally:
            self._ops.halted.set()

    def start(self) -> None:
        self._thread.start()
        self._ops.halted.wait()

    def finish(self) -> None:
        """Raises what the attempt raised, if it was anything but the loss of its claim."""
        self._ops.go.set()
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble
