"""When to stop: a signal, a deadline or short memory, looked at between steps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["STOP_SIGNALS", "StopFlag"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""A person, whoever takes the machine away, and Slurm some time before a job's end."""


class StopFlag:
    """Set by a signal, a deadline or short memory: finish what the device has in hand, flush and leave."""

    def __init__(
        self,
        deadline: float | None = None,
        clock: Callable[[], float] = time.time,
        *,
        shortage: Callable[[], str] = lambda: "",
    ) -> None:
        """`shortage` says why there is too little memory to go on, if so; it is asked at each look."""
        self.signal: int | None = None
        """The first signal that came."""
        self.shortage = ""
        """Why there was too little memory."""
        self._shortage = shortage
        self._deadline = deadline
        self._clock = clock

    def __call__(self) -> bool:
        """Whether to stop."""
        if not self.shortage and self.signal is None:
            self.shortage = self._shortage()
        return (
            bool(self.shortage)
            or self.signal is not None
            or (self._deadline is not None and self._clock() >= self._deadline)
        )

    def _set(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            with suppress(OSError):  # not the log: a handler that interrupts a write to a stream must not write to it
                os.write(2, f"{signal.Signals(number).name}: finishing what is in hand\n".encode())

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to the signals within this block."""
        before = {number: signal.signal(number, self._set) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
