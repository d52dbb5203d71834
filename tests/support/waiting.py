"""Threads of which a test has to know that they wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 600
"""A machine may be slow; who waits longer waits for what never comes."""


class Waiter:
    """Calls a function in a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.result: Any = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.result = self._function()

    def join(self) -> Any:
        """What the function returned."""
        self._thread.join(timeout=PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "it still waits"
        return self.result

    @property
    def waits(self) -> bool:
        """Whether it has not returned."""
        return self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does next."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)
