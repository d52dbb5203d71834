"""hpc/witness.py: whoever waits for a worker ends it when it is stuck, and learns how it died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import wait_for

from hpc import witness as module
from hpc.deaths import Death, may_go_on
from hpc.stalls import write_stall
from hpc.witness import Witness
from jobs import watchdog
from jobs.activities import Activities, What
from jobs.memory_events import OomKills
from jobs.signals import STOP_SIGNALS

FOREVER = 1e6
Work = Callable[[Callable[[], bool]], int]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness that looks often."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Callable[..., Witness]]:
    """Makes witnesses; afterwards this process answers to signals as before."""
    numbers = (*STOP_SIGNALS, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    (tmp_path / "report").touch()

    def make(*, impatient: bool = True) -> Witness:
        return Witness(tmp_path / "report", tmp_path / "stall", task="0001/0", node="n1", impatient=impatient)

    yield make
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def stuck(activities: Activities, what: What = "decode", ready: Callable[[], object] = lambda: None) -> Work:
    """A worker that begins something and never ends it, nor hears of signals."""

    def work(_asked: Callable[[], bool]) -> int:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        with activities.doing(what, tar="a", clip=7, about="/d/a.tar" if what == "read" else ""):
            ready()
            time.sleep(FOREVER)
        return 0

    return work


def dead(end: int | Death) -> Death:
    assert isinstance(end, Death)
    return end


class TestEnds:
    def test_by_itself(self, witness: Callable[..., Witness]) -> None:
        """Its exit code, as it was; one that nobody foresaw is no second witness."""
        activities = Activities()
        assert witness().watch(lambda _asked: 3, activities) == 3

        def fails(_asked: Callable[[], bool]) -> int:
            raise RuntimeError("a bug")

        assert witness().watch(fails, activities) == module.CRASH_EXIT

    def test_where_there_is_no_room_for_a_log(
        self, witness: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Lines that cannot be written keep nobody from working, nor a bug from being a bug."""

        def fails(_asked: Callable[[], bool]) -> int:
            raise RuntimeError("a bug")

        with Path("/dev/full").open("w") as full:
            full.write("a line that waits")
            monkeypatch.setattr("sys.stderr", full)
            assert witness().watch(lambda _asked: 3, Activities()) == 3
            assert witness().watch(fails, Activities()) == module.CRASH_EXIT
            monkeypatch.undo()
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())

    def test_without_progress(self, witness: Callable[..., Witness]) -> None:
        """It is ended when its time is up, and what it was at is known."""
        activities = Activities(0.2)
        death = dead(witness().watch(stuck(activities), activities))
        assert death.cause == "stall"
        assert death.words.startswith("the worker was ended: decoding clip 7 of a has made no progress")

    @pytest.mark.slow
    def test_progress_takes_as_long_as_it_takes(self, witness: Callable[..., Witness]) -> None:
        """A worker that gives a sign now and then is left alone, and so is one that may take any time."""
        activities = Activities(0.5)

        def slow(_asked: Callable[[], bool]) -> int:
            with activities.doing("decode") as step:
                for _ in range(20):
                    time.sleep(0.05)
                    step.sign()
            return 0

        assert witness().watch(slow, activities) == 0
        unlimited = Activities(0.0)

        def slower(_asked: Callable[[], bool]) -> int:
            with unlimited.doing("encode"):
                time.sleep(1.0)
            return 0

        assert witness().watch(slower, unlimited) == 0

    @pytest.mark.parametrize(("after", "cause"), [(4, "memory"), (3, "outside")])
    def test_killed(self, after: int, cause: str, witness: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel's counts from before and after tell its own kill from that of somebody else."""
        counts = iter([3, after])
        monkeypatch.setattr(module, "read_oom_kills", lambda: OomKills("memory.events", next(counts)))
        activities = Activities()

        def killed(_asked: Callable[[], bool]) -> int:
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        assert dead(witness().watch(killed, activities)).cause == cause

    @pytest.mark.slow
    def test_does_not_die(self, witness: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that waits in the kernel outlives SIGKILL: the witness leaves it, and tells what it was at."""
        kill, workers = os.kill, []
        monkeypatch.setattr(module, "UNKILLABLE_SECONDS", 0.2)
        monkeypatch.setattr(os, "kill", lambda pid, _number: workers.append(pid))
        activities = Activities(0.1)
        death = dead(witness().watch(stuck(activities, "read"), activities))
        for worker in workers:
            kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        assert "reading /d/a.tar" in death.words
        assert death.lingers
        assert not may_go_on(death, [])

    @pytest.mark.slow
    def test_stopped_by_somebody(self, witness: Callable[..., Witness], tmp_path: Path) -> None:
        """While a worker is stopped its time stands still."""
        activities = Activities(0.3)

        def stops(_asked: Callable[[], bool]) -> int:
            worker = os.getpid()
            if os.fork() == 0:
                time.sleep(1.0)
                os.kill(worker, signal.SIGCONT)
                os._exit(0)
            with activities.doing("decode"):
                os.kill(worker, signal.SIGSTOP)
            return 0

        assert witness().watch(stops, activities) == 0


class TestAskedToStop:
    def asks(self) -> Callable[[], None]:
        return lambda: os.kill(os.getppid(), signal.SIGTERM)

    @pytest.mark.slow
    def test_does_not_wait_for_what_is_stuck(self, witness: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch) -> None:
        """On one machine Ctrl-C ends a worker that hangs, long before its clip's time is up."""
        monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 0.3)
        monkeypatch.setattr(watchdog, "NOTICE_SECONDS", 0.1)
        activities = Activities()
        watching = witness()
        assert isinstance(watching.watch(stuck(activities, ready=self.asks()), activities), Death)
        assert watching.asked

    @pytest.mark.slow
    def test_on_a_cluster_that_is_for_slurm_to_do(
        self, witness: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A preempted job may have minutes left, which only Slurm knows of."""
        monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 0.1)
        monkeypatch.setattr(watchdog, "NOTICE_SECONDS", 0.0)
        activities = Activities()

        def slow(_asked: Callable[[], bool]) -> int:
            with activities.doing("encode"):
                self.asks()()
                until = time.monotonic() + 1.0
                while time.monotonic() < until:
                    time.sleep(0.01)
            return 5

        assert witness(impatient=False).watch(slow, activities) == 5


class TestTold:
    @pytest.mark.slow
    def test_since_when(self, witness: Callable[..., Witness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While it makes no progress, and only then, a file says so to whoever looks at the run."""
        monkeypatch.setattr(module, "REPORTED_SECONDS", 0.2)
        told: list[tuple[str, bool]] = []

        def listen(path: Path, task: str, node: str, stall: Any, now: float) -> None:
            write_stall(path, task, node, stall, now)
            told.append((task, path.exists()))

        monkeypatch.setattr(module, "write_stall", listen)
        activities = Activities()

        def slow(_asked: Callable[[], bool]) -> int:
            with activities.doing("decode", tar="a", clip=7) as step:
                wait_for((tmp_path / "stall").exists)
                step.sign()
                wait_for(lambda: not (tmp_path / "stall").exists())
                wait_for((tmp_path / "stall").exists)
            return 0

        assert witness().watch(slow, activities) == 0
        assert told == [("0001/0", True), ("0001/0", False), ("0001/0", True), ("0001/0", False)]

    def test_the_task_lives(self, witness: Callable[..., Witness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However long a clip takes, the report shows that somebody is there."""
        monkeypatch.setattr(module, "TOUCH_SECONDS", 0.05)
        os.utime(tmp_path / "report", (1e9, 1e9))

        def works(_asked: Callable[[], bool]) -> int:
            wait_for(lambda: (tmp_path / "report").stat().st_mtime > 1e9)
            return 0

        assert witness().watch(works, Activities()) == 0
