"""When to stop: a signal, a deadline or short memory, looked at between steps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["INTERRUPTIONS", "STOP_SIGNALS", "StopFlag"]

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the end of the session or the job."""
STOP_SIGNALS = (*INTERRUPTIONS, signal.SIGUSR2)
"""A worker's: Slurm sends the last one some time before a job's time limit."""


class StopFlag:
    """Set by a signal, a deadline or short memory.

    A handler only remembers its signal and writes one line, so that it may interrupt anything. Call the flag between steps.
    """

    def __init__(
        self,
        deadline: float | None = None,
        clock: Callable[[], float] = time.time,
        *,
        shortage: Callable[[], str] = lambda: "",
        answer: str = "finishing what is in hand",
    ) -> None:
        """`shortage` says why there is too little memory to go on, or ""; each look at the flag asks it. `answer` is written
        to stderr after the name of the first signal; nothing is, if it is empty.
        """
        self.signal: int | None = None
        """The first signal that came."""
        self.count = 0
        """How many signals came."""
        self.shortage = ""
        """Why there was too little memory."""
        self._shortage = shortage
        self._deadline = deadline
        self._clock = clock
        self._answer = answer

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
        self.count += 1
        if self.signal is not None:
            return
        self.signal = number
        if self._answer:
            with suppress(OSError):  # not the log: a handler that interrupts a write to a stream must not write to it
                os.write(2, f"{signal.Signals(number).name}: {self._answer}\n".encode())

    @contextmanager
    def on_signals(self, numbers: Sequence[int] = STOP_SIGNALS) -> Iterator[None]:
        """Listen to these signals within this block."""
        before = {number: signal.signal(number, self._set) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
