"""jobs/turns.py: calls side by side, and one that is alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs.turns import Turns


class Waits:
    """Tells when threads wait."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.begun.release()
        yield


def test_calls_go_side_by_side() -> None:
    """None waits for another one, from its beginning to its end."""
    turns, inside = Turns(), threading.Barrier(3)

    def call() -> None:
        with turns.beside():
            inside.wait()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for thread in threads:
        thread.join()


def test_one_that_is_alone() -> None:
    """It waits for those that go on, those that come later wait for it, and all of it is told as waiting."""
    waits = Waits()
    turns = Turns(waits)
    order: list[str] = []

    def alone() -> None:
        with turns.alone():
            order.append("alone begins")
            order.append("alone ends")

    def later(name: str) -> None:
        with turns.beside() if name == "beside" else turns.alone():
            order.append("later")

    with turns.beside():
        threads = [threading.Thread(target=alone)]
        threads[0].start()
        waits.begun.acquire()
        for name in ("beside", "alone"):
            threads.append(threading.Thread(target=later, args=(name,)))
            threads[-1].start()
            waits.begun.acquire()
        order.append("first ends")
    for thread in threads:
        thread.join()
    assert order == ["first ends", "alone begins", "alone ends", "later", "later"]


def test_a_call_that_fails_ends_its_turn() -> None:
    """The next one does not wait for ever."""
    turns = Turns()
    with pytest.raises(ValueError, match="beside"), turns.beside():
        raise ValueError("beside")
    with pytest.raises(ValueError, match="alone"), turns.alone():
        raise ValueError("alone")
    with turns.alone():
        pass
    with turns.beside():
        pass
