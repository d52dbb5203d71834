"""jobs/own_watch.py: a command without a witness ends when it is stuck, and at Ctrl-C, whatever its threads wait for."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobs import own_watch as module
from jobs.activities import Activities
from jobs.own_watch import OwnWatch, ended_when_stuck
from jobs.watchdog import NOTICE_SECONDS, PATIENCE_SECONDS

INTERRUPT = bytes([signal.SIGINT])


@pytest.fixture
def stuck() -> Iterator[Activities]:
    """A process that is at a clip, and stays there."""
    activities = Activities(60.0)
    with activities.doing("decode", tar="a", clip=7):
        yield activities


def seconds(watch: OwnWatch, first: int, last: int) -> list[tuple[int, str]]:
    """What it says, second by second."""
    found = [watch.look(float(second), b"") for second in range(first, last + 1)]
    return [one for one in found if one is not None]


class TestVerdict:
    def test_without_progress(self, stuck: Activities) -> None:
        """It ends when the clip's time is up, not before, and says where it was and what finds the clip."""
        watch = OwnWatch(stuck, 0.0)
        assert seconds(watch, 0, 59) == []
        ((code, words),) = seconds(watch, 60, 60)
        assert code == 1
        assert words.startswith("decoding clip 7 of a has made no progress for 60 s: given up; the partial stays good")
        assert "hpc.submit --cluster local" in words

    def test_asked_to_stop(self, stuck: Activities) -> None:
        """What is in hand has half a minute in all; then the exit code is that of the signal."""
        watch = OwnWatch(stuck, 0.0)
        assert watch.look(1.0, INTERRUPT) is None
        assert seconds(watch, 2, int(PATIENCE_SECONDS)) == []
        ((code, words),) = seconds(watch, int(PATIENCE_SECONDS) + 1, int(PATIENCE_SECONDS) + 1)
        assert code == 128 + signal.SIGINT
        assert "not waited for" in words

    def test_asked_to_stop_while_it_hangs(self, stuck: Activities) -> None:
        """What has hung for long is waited for a few seconds only."""
        watch = OwnWatch(stuck, 0.0)
        assert seconds(watch, 0, 50) == []
        assert watch.look(51.0, bytes([signal.SIGTERM])) is None
        assert seconds(watch, 52, 50 + int(NOTICE_SECONDS)) == []
        assert seconds(watch, 51 + int(NOTICE_SECONDS), 51 + int(NOTICE_SECONDS))[0][0] == 128 + signal.SIGTERM

    def test_twice(self, stuck: Activities) -> None:
        """A second Ctrl-C ends it at once; other signals may come as often as they like."""
        watch = OwnWatch(stuck, 0.0)
        assert watch.look(1.0, bytes([signal.SIGUSR2, signal.SIGUSR2, signal.SIGCHLD])) is None
        assert watch.look(2.0, INTERRUPT) == (128 + signal.SIGUSR2, "ended at once; the partial stays good")

    def test_nothing_in_hand(self) -> None:
        """Who is at nothing is not stuck, and comes to its end by itself."""
        watch = OwnWatch(Activities(), 0.0)
        assert seconds(watch, 0, 100) == []
        assert watch.look(101.0, INTERRUPT) is None
        assert seconds(watch, 102, 300) == []


class TestThread:
    def test_ends_the_process(self, stuck: Activities, capfd: pytest.CaptureFixture[str]) -> None:
        """Ctrl-C twice reaches it though the main thread does something else; the words are on stderr."""
        ends: list[int] = []
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            with ended_when_stuck(stuck, ends.append):
                while not ends:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
        finally:
            signal.signal(signal.SIGINT, before)
        assert ends[0] == 128 + signal.SIGINT
        assert "error: ended at once; the partial stays good" in capfd.readouterr().err

    def test_many_open_files(self, stuck: Activities) -> None:
        """A process with more than 1024 open files is watched like any other."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2000), hard))
        ends: list[int] = []
        before = signal.signal(signal.SIGINT, lambda *_: None)
        with ExitStack() as held:
            held.callback(signal.signal, signal.SIGINT, before)
            held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            while (fd := os.open("/dev/null", os.O_RDONLY)) < 1100:
                held.callback(os.close, fd)
            held.callback(os.close, fd)
            with ended_when_stuck(stuck, ends.append):
                while not ends and any(thread.name == "watch" for thread in threading.enumerate()):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
        assert ends[:1] == [128 + signal.SIGINT]

    def test_leaves_nothing_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Afterwards there is no thread, no open file and no other wakeup descriptor than before."""
        monkeypatch.setattr(module, "LOOK_SECONDS", 60.0)  # its end does not wait for the next look
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with ended_when_stuck(Activities()):
            pass
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert signal.set_wakeup_fd(-1) == -1
