"""Calls that may go side by side, and calls that have to be alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["Turns"]


class Turns:
    """For the calls of several threads. No call may begin another one."""

    def __init__(self, waiting: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        """`waiting`: a block in which the calling thread waits for others."""
        self._waiting = waiting
        self._changed = threading.Condition()
        self._running = 0
        self._alone = False
        """Whether somebody is alone, or waits for it: nobody else begins meanwhile."""

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Within this block nobody is alone."""
        self._when(lambda: not self._alone, running=1)
        try:
            yield
        finally:
            self._end(running=-1)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within this block nobody else is in one."""
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
