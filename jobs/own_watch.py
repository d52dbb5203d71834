"""A watch over a worker without a witness: a thread that ends the process if it makes no progress, or does not stop.

Only a witness survives a death and can count it, so no clip becomes a record here. The process ends with a message that says
where it was stuck; its partial stays good, as after kill -9.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.activities import Activities
from jobs.processes import look_at
from jobs.signals import STOP_SIGNALS
from jobs.watchdog import Watchdog

__all__ = ["OwnWatch", "ended_when_stuck"]

LOOK_SECONDS = 1.0
STUCK_EXIT = 1
ADVICE = (
    "given up; the partial stays good. --clip-timeout gives it more time (0: any). hpc.submit --cluster local finds a clip "
    "that never ends, and goes on without it"
)


class OwnWatch:
    """Decides when the process must end. Its thread does not depend on any other."""

    def __init__(self, activities: Activities, now: float) -> None:
        self._activities = activities
        self._watchdog = Watchdog(now)
        self._asked: int | None = None
        self._asked_at = 0.0

    def look(self, now: float, signals: bytes) -> tuple[int, str] | None:
        """The exit code and the last words of a process that is to end now; None for one that may go on.

        `signals`: numbers of those that have come since the last look. A second Ctrl-C is for those who do not want to wait.
        """
        for number in signals:
            if self._asked is not None and number == signal.SIGINT:
                return 128 + self._asked, "ended at once; the partial stays good"
            if self._asked is None and number in STOP_SIGNALS:
                self._asked, self._asked_at = number, now
        activities = self._activities.seen()
        effort = look_at(os.getpid(), effort=True).effort if any(one.what == "load" for one in activities) else None
        self._watchdog.look(now, activities, effort)
        if self._asked is None:
            late = self._watchdog.overdue()
            return None if late is None else (STUCK_EXIT, f"{late}: {ADVICE}")
        late = self._watchdog.hopeless(now - self._asked_at)
        return None if late is None else (128 + self._asked, f"{late}: not waited for; the partial stays good")


@contextmanager
def ended_when_stuck(activities: Activities, end: Callable[[int], None] = os._exit) -> Iterator[None]:
    """Within this block, which is to be in the main thread, a process that is stuck ends by itself.

    Signals reach the watch even while the main thread waits in the kernel: Python writes their numbers into a pipe.
    """
    reads, writes = os.pipe()
    for fd in (reads, writes):
        os.set_blocking(fd, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    over = threading.Event()
    watch = OwnWatch(activities, time.monotonic())

    def keep_watch() -> None:
        signals = select.poll()  # select.select refuses descriptors from 1024 on
        signals.register(reads, select.POLLIN)
        while not over.is_set():
            ready = signals.poll(LOOK_SECONDS * 1000)
            verdict = watch.look(time.monotonic(), os.read(reads, 512) if ready else b"")
            if verdict is not None and not over.is_set():
                os.write(2, f"error: {verdict[1]}\n".encode(errors="backslashreplace"))  # a log may be what hangs
                end(verdict[0])

    thread = threading.Thread(target=keep_watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        os.write(writes, b"\0")
        signal.set_wakeup_fd(before)
        thread.join()
        os.close(reads)
        os.close(writes)
