"""Waiting that ends with the event, however slow the machine, and gives up where nothing goes on any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_while_moving"]

QUIET_SECONDS = 120.0
LOOK_SECONDS = 5.0
LEAST_PAUSE, LONGEST_PAUSE, PAUSE_SHARE = 0.05, 0.5, 0.1
"""Seconds between two questions, and their share of the time waited so far: most ask a Slurm, which costs it and us CPU."""
BUSY_SHARE = 0.1
"""Of a core: who takes less only waits for something too."""

T = TypeVar("T")


def wait_while_moving(
    condition: Callable[[], T], what: str, *, states: Callable[[], object], computed: Callable[[], float]
) -> T:
    """Wait until `condition` holds; returns what it gave. TimeoutError, with `what` was awaited, where for QUIET_SECONDS
    `states` have stayed the same and nobody `computed`, in seconds so far.
    """
    seen: tuple[object, float] = (None, 0.0)
    looked = moved = began = time.monotonic()
    while not (value := condition()):
        now = time.monotonic()
        if now - looked > LOOK_SECONDS:
            before, seen = seen, (states(), computed())
            if seen[0] != before[0] or seen[1] - before[1] > BUSY_SHARE * (now - looked):
                moved = now
            elif now - moved > QUIET_SECONDS:
                raise TimeoutError(f"{what}: not yet, and nothing has moved for {QUIET_SECONDS:g} s")
            looked = now
        time.sleep(min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE_SHARE * (now - began))))
    return value
