"""hpc/lock.py: one at a time, and never stopped for good by somebody who is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest
from support.runs import wait_for

from hpc import lock as module
from hpc.lock import LockHeldError, locked
from jobs.claims import Claim, process_start, read_claim


def hold_as(path: Path, claim: Claim) -> None:
    path.write_bytes(msgspec.json.encode(claim))


def living_other() -> Claim:
    """A living process of this machine that is not this one."""
    here = Claim.of_this_process("x")
    return msgspec.structs.replace(here, pid=os.getppid(), started=process_start(os.getppid()))


def elsewhere(attempt: str = "x") -> Claim:
    return Claim(attempt, "elsewhere", 1, "1")


def add_one(path: Path) -> None:
    for _ in range(20):
        with locked(path.with_suffix(".lock")):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


@pytest.mark.slow
def test_one_at_a_time(tmp_path: Path) -> None:
    """Processes that read, think and write under the lock lose none of each other's writes, and leave no lock."""
    path = tmp_path / "count"
    path.write_text("0")
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(add_one, [path] * 4))
    assert path.read_text() == "80"
    assert [file.name for file in tmp_path.iterdir()] == ["count"]


def test_released_after_an_exception(tmp_path: Path) -> None:
    """Whatever happens under it, the lock is given back."""
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        raise ZeroDivisionError
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("wait", [True, False])
def test_the_dead_of_this_machine_hold_nothing(wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a killed process left here is taken over at once; so is a file that is no lock."""
    here = Claim.of_this_process("x")
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    for content in (msgspec.json.encode(msgspec.structs.replace(here, pid=2**22 + 1)), b"", b"garbage"):
        (tmp_path / "lock").write_bytes(content)
        with locked(tmp_path / "lock", take_over_after=60.0, wait=wait):
            assert read_claim(tmp_path / "lock") != here
        assert not (tmp_path / "lock").exists()


def test_patience_ends(tmp_path: Path) -> None:
    """A lock of another host, whose process nobody here can ask, stands in the way for so long and no longer."""
    hold_as(tmp_path / "lock", elsewhere())
    started = time.monotonic()
    with locked(tmp_path / "lock", take_over_after=0.2):
        assert time.monotonic() - started >= 0.2


def test_patience_is_with_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who hold the lock for a moment each are no reason to take it from the last of them."""
    now = [0.0]
    holders = iter([elsewhere(str(number)) for number in range(5)])
    path = tmp_path / "lock"
    hold_as(path, elsewhere("first"))

    def sleep(_seconds: float) -> None:
        now[0] += 6.0
        following = next(holders, None)
        if following is None:
            path.unlink()
        else:
            hold_as(path, following)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(module, "write_atomically", lambda *_: pytest.fail("taken from a holder that had just come"))
    with locked(path, take_over_after=10.0):
        assert now[0] == 36.0


class TestWithoutWaiting:
    def test_says_who_holds_it(self, tmp_path: Path) -> None:
        """A second controller learns at once that there is one, and whose process it is."""
        holder = living_other()
        hold_as(tmp_path / "lock", holder)
        with (
            pytest.raises(LockHeldError, match=rf"process {holder.pid} on {holder.host}"),
            locked(tmp_path / "lock", wait=False),
        ):
            pass
        assert read_claim(tmp_path / "lock") == holder

    def test_an_old_lock_is_taken_over(self, tmp_path: Path) -> None:
        """Judged by the file's age on its own file system: no clock of a host takes part."""
        hold_as(tmp_path / "lock", elsewhere())
        with pytest.raises(LockHeldError), locked(tmp_path / "lock", wait=False, take_over_after=100.0):
            pass
        old = time.time() - 200
        os.utime(tmp_path / "lock", (old, old))
        with locked(tmp_path / "lock", wait=False, take_over_after=100.0):
            pass
        assert not (tmp_path / "lock").exists()


def test_what_another_has_taken_over_is_left_to_it(tmp_path: Path) -> None:
    """A holder that slept too long does not remove its successor's lock."""
    with locked(tmp_path / "lock"):
        hold_as(tmp_path / "lock", elsewhere())
    assert read_claim(tmp_path / "lock") == elsewhere()


def test_waits_for_a_living_holder(tmp_path: Path) -> None:
    """One that comes second goes on as soon as the first is done."""
    path, entered = tmp_path / "lock", threading.Event()
    hold_as(path, living_other())

    def second() -> None:
        with locked(path, take_over_after=60.0):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not entered.wait(0.2)
    path.unlink()
    wait_for(entered.is_set)
    thread.join()
