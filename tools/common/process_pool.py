"""Work in several processes. Results come in order; all processes end when one fails, at Ctrl-C, and with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from ctypes import c_bool, c_int64
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, TypeVar

from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.command_names import adopt_names, names_of_process
from audio_tokenizers.shared.wording import counted

__all__ = ["Tell", "in_processes"]

AHEAD = 2
LOOK_SECONDS = 0.2

Task = TypeVar("Task")
Result = TypeVar("Result")
Tell = Callable[[int], None]
"""Called with bytes read. It raises in a process whose result is no longer wanted, to end the work."""


class _Stopped(BaseException):
    """The parent no longer wants the result. Not an Exception: no handler may take it for an error."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the processes and their parent share."""

    stop: Any
    """bool, set by the parent."""
    bytes_read: Any
    """int, with a lock."""
    names: dict[str, str]
    """What commands are called in messages."""


_shared: _Shared | None = None


def in_processes(
    make: Callable[[Task, Tell], Result], tasks: Sequence[Task], workers: int, tell: Tell, *, ahead: int = AHEAD
) -> Generator[Result]:
    """`make(task, tell)` of every task, in order, in up to `workers` processes; with one worker, in this process.

    `make` must be importable by name. Up to `ahead` tasks per process are finished or running while the first of them is
    awaited. An error of `make` is raised in its turn, and ends the others when they next `tell`.
    Raises InfrastructureError if a process is killed.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield make(task, tell)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    shared = _Shared(context.RawValue(c_bool, False), context.Value(c_int64, 0), names_of_process())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(shared,))
    waiting: deque[Future[Any]] = deque()
    told = 0

    def first() -> Result:
        nonlocal told
        future = waiting.popleft()
        while True:
            ready, _ = wait_for([future], LOOK_SECONDS)
            done = shared.bytes_read.value
            tell(done - told)
            told = done
            if ready:
                result: Result = future.result()
                return result

    try:
        for task in tasks:
            with _interrupts_held():
                waiting.append(pool.submit(_run, make, task))
            if len(waiting) >= ahead * workers:
                yield first()
        while waiting:
            yield first()
    except BrokenProcessPool:
        raise InfrastructureError(
            f"one of {counted(workers, 'process', 'processes')} was killed: is there enough memory for so many?"
        ) from None
    finally:
        shared.stop.value = True
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started within this block ignore Ctrl-C, or each would print a traceback; the parent handles it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(shared: _Shared) -> None:
    global _shared  # noqa: PLW0603 (of this process: it comes once, before any task)
    _shared = shared
    adopt_names(shared.names)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent dies: a killed parent cannot end its processes, which would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run(make: Callable[[Task, Tell], Result], task: Task) -> Result | None:
    shared = _shared
    assert shared is not None, "_begin comes first"

    def tell(size: int) -> None:
        if shared.stop.value:
            raise _Stopped
        with shared.bytes_read.get_lock():
            shared.bytes_read.value += size

    try:
        return make(task, tell)
    except _Stopped:
        return None
