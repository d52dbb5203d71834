"""A worker's witness: it waits for the worker, forwards signals to it, and ends it when it makes no progress."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from hpc.deaths import Death, explain
from hpc.stalls import REPORTED_SECONDS, write_stall
from jobs.activities import Activities
from jobs.memory_events import read_oom_kills
from jobs.plain_text import warn
from jobs.processes import look_at
from jobs.signals import STOP_SIGNALS
from jobs.watchdog import Stall, Watchdog

__all__ = ["CRASH_EXIT", "LastLook", "Witness", "die_with", "flush_streams"]

LOOK_SECONDS = 1.0
TOUCH_SECONDS = 60.0
CRASH_EXIT = 70
UNKILLABLE_SECONDS = 60.0
"""Seconds after SIGKILL when a process that is still there counts as stuck in the kernel."""

PR_SET_PDEATHSIG = 1
"""See prctl(2)."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class LastLook:
    """When a job is about to end: whether its worker has spent too long on one clip."""

    at: float
    """Seconds since the epoch."""
    seconds: float
    """Seconds without progress that are too long: another job would get no further."""


class _CannotDieError(Exception):
    """The worker outlives SIGKILL."""


class Witness:
    """Waits for one worker after another, and shows that their task is alive."""

    def __init__(
        self,
        report_file: Path,
        stall_file: Path,
        *,
        task: str,
        node: str,
        impatient: bool,
        last_look: LastLook | None = None,
    ) -> None:
        """`impatient`: end a stuck worker that was asked to stop. On a cluster Slurm does that."""
        self.asked = False
        """The task was asked to end: later deaths are blamed on nothing."""
        self.out_of_time = False
        """The exception: one clip has taken much of the job's time, and the job ends."""
        self._last_look = last_look
        self._worker: int | None = None
        self._report_file, self._stall_file = report_file, stall_file
        self._task, self._node = task, node
        self._impatient = impatient
        self._touched = self._asked_at = self._killed_at = 0.0
        self._told: int | None = None
        """The stamp of the activity that the stall file reports."""
        self._watchdog = Watchdog(time.monotonic())
        self._activities = Activities()
        self._stall: Stall | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGALRM, self._look)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
        if self._worker is not None:
            with suppress(ProcessLookupError):
                os.kill(self._worker, number)

    def watch(self, work: Callable[[Callable[[], bool]], int], activities: Activities) -> int | Death:
        """Fork a worker and wait for it. Returns its exit code, or how it died.

        `activities` is created before the fork, so that both processes share it.
        """
        flush_streams()
        before = read_oom_kills()
        witness = os.getpid()
        worker = os.fork()
        if worker == 0:
            die_with(witness)
            os._exit(self._be_worker(work))
        self._worker = worker
        self._activities, self._stall, self._killed_at = activities, None, 0.0
        now = time.monotonic()
        self._watchdog, self._touched = Watchdog(now), now
        if self.asked:  # before there was a worker to forward it to
            self._pass_on(signal.SIGTERM, None)
        lingers = False
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        try:
            _, status = os.waitpid(worker, 0)
            code = os.waitstatus_to_exitcode(status)
        except _CannotDieError:
            log.error("process %d survives SIGKILL: it is stuck in the kernel and is left behind", worker)
            code, lingers = -signal.SIGKILL, True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._worker = None
        self._tell(None)
        if code >= 0:
            return code
        return replace(explain(-code, self._stall, before, read_oom_kills(), node=self._node), lingers=lingers)

    def _look(self, _number: int, _frame: FrameType | None) -> None:
        """Called every LOOK_SECONDS while the witness waits."""
        worker, now = self._worker, time.monotonic()
        if worker is None:
            return
        if self._killed_at:
            if now - self._killed_at > UNKILLABLE_SECONDS:
                raise _CannotDieError
            return
        activities = self._activities.seen()
        process = look_at(worker, effort=any(one.what == "load" for one in activities))
        self._watchdog.look(now, activities, process.effort, stopped=process.stopped)
        if (late := self._watchdog.overdue()) is not None:
            self._stall = late
            log.error("%s: the worker is ended", late)
            self._kill(worker, now)
        elif (late := self._endless()) is not None:
            self.out_of_time, self._stall = True, late
            log.error("%s, and the job ends: the worker is ended", late)
            self._kill(worker, now)
        elif self.asked and self._impatient and (late := self._watchdog.hopeless(now - self._asked_at)) is not None:
            log.error("%s: the worker is not waited for; its partials stay good", late)
            self._kill(worker, now)
        longest = self._watchdog.longest()
        self._tell(longest if longest is not None and longest.seconds >= REPORTED_SECONDS else None)
        if now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            with suppress(OSError):
                os.utime(self._report_file)

    def _endless(self) -> Stall | None:
        """At the end of the job, an activity that has taken so long that another job would not finish it either."""
        look = self._last_look
        return self._watchdog.without_end(look.seconds) if look is not None and time.time() >= look.at else None

    def _tell(self, stall: Stall | None) -> None:
        """Update the stall file, which tools show."""
        stamp = stall.activity.stamp if stall is not None else None
        if stamp != self._told:
            self._told = stamp
            write_stall(self._stall_file, self._task, self._node, stall, time.time())

    def _kill(self, worker: int, now: float) -> None:
        self._killed_at = now
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)

    def _be_worker(self, work: Callable[[Callable[[], bool]], int]) -> int:
        code = CRASH_EXIT
        try:
            code = work(lambda: self.asked)
        except BaseException:  # noqa: BLE001 (this process must not continue as a second witness)
            with suppress(OSError):
                warn(traceback.format_exc().rstrip())
        finally:
            flush_streams()
        return code


def die_with(witness: int) -> None:
    """Have the kernel end this process as soon as its witness is gone. Nothing else would if it hangs, and its partials are
    valid as they are.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != witness:  # it died before prctl
        os.kill(os.getpid(), signal.SIGKILL)


def flush_streams() -> None:
    """Flush what was printed. Without room for a log the work continues."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
