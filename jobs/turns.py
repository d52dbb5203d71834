"""Coordinate calls that may run concurrently with calls that must run alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["Turns"]


class Turns:
    """Shared by several threads. Not reentrant: a call must not begin another."""

    def __init__(self, waiting: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        """`waiting` makes the context manager that surrounds waits of the calling thread."""
        self._waiting = waiting
        self._changed = threading.Condition()
        self._running = 0
        self._alone = False
        """A thread runs alone or is about to: no other call may begin."""

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run beside other calls: within this block, none runs alone."""
        self._when(lambda: not self._alone, running=1)
        try:
            yield
        finally:
            self._end(running=-1)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run alone: within this block, no other call runs."""
        self._when(lambda: not self._alone, alone=True)
        try:
            self._when(lambda: self._running == 0)
            yield
        finally:
            self._end(alone=False)

    def _when(self, ready: Callable[[], bool], *, running: int = 0, alone: bool | None = None) -> None:
        with self._changed:
            if not ready():
                with self._waiting():
                    self._changed.wait_for(ready)
            self._set(running, alone)

    def _end(self, *, running: int = 0, alone: bool | None = None) -> None:
        with self._changed:
            self._set(running, alone)
            self._changed.notify_all()

    def _set(self, running: int, alone: bool | None) -> None:
        self._running += running
        if alone is not None:
            self._alone = alone
