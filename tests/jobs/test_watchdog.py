"""jobs/watchdog.py: who makes progress is never ended, however slow; who makes none has a known time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from jobs.activities import Activity, What
from jobs.watchdog import NOTICE_SECONDS, PATIENCE_SECONDS, PAUSE_SECONDS, Effort, Stall, Watchdog


def at(stamp: int, *, slot: int = 0, allowed: float = 60.0, what: What = "decode") -> Activity:
    return Activity(slot, stamp, allowed, what, "a", 7)


def after(seconds: int, *activities: Activity) -> Watchdog:
    """A watchdog that has seen these for so long, second by second."""
    dog = Watchdog(0.0)
    for second in range(seconds + 1):
        dog.look(float(second), activities)
    return dog


class TestOverdue:
    def test_without_a_sign(self) -> None:
        """One second too few and it may go on; then it is named, with the time."""
        assert after(59, at(1)).overdue() is None
        late = after(60, at(1)).overdue()
        assert late == Stall(at(1), 60.0)
        assert str(late) == "decoding clip 7 of a has made no progress for 60 s"

    @given(st.lists(st.integers(1, 59), min_size=1, max_size=50))
    def test_a_sign_in_time_is_enough(self, pauses: list[int]) -> None:
        """However many steps a clip takes, and however slow each is within its time, it is never ended."""
        dog, now = Watchdog(0.0), 0.0
        for stamp, pause in enumerate(pauses, 1):
            for _ in range(pause):
                now += 1.0
                dog.look(now, [at(stamp)])
                assert dog.overdue() is None

    def test_one_of_several(self) -> None:
        """That another thread gets on, or waits, does not help the one that does not; its own time counts."""
        dog = Watchdog(0.0)
        for second in range(61):
            dog.look(float(second), [at(1, allowed=60.0), at(second + 2, slot=1), at(99, slot=2, allowed=1000.0)])
        assert dog.overdue() == Stall(at(1), 60.0)
        assert dog.longest() is not None

    def test_what_would_not_end_in_another_job(self) -> None:
        """A step at a clip that has had so much time; not one that gets on, that nobody may end, or that is at no clip."""
        assert after(29, at(1)).without_end(30.0) is None
        assert after(30, at(1)).without_end(30.0) == Stall(at(1), 30.0)
        assert after(90, at(1, allowed=math.inf)).without_end(30.0) is None
        assert after(90, Activity(0, 1, 60.0, "read", "a")).without_end(30.0) is None
        dog = Watchdog(0.0)
        for second in range(90):
            dog.look(float(second), [at(second)])
        assert dog.without_end(30.0) is None

    def test_never(self) -> None:
        """What has no limit is seen to take long, and not ended."""
        dog = after(10_000, at(1, allowed=math.inf))
        assert dog.overdue() is None
        assert dog.longest() == Stall(at(1, allowed=math.inf), 10_000.0)

    def test_suspended_together(self) -> None:
        """A job that Slurm suspends for a day, or a machine that sleeps, has made no progress for a few seconds."""
        dog = after(30, at(1))
        dog.look(86_400.0, [at(1)])
        longest = dog.longest()
        assert dog.overdue() is None
        assert longest is not None
        assert longest.seconds == 30.0 + PAUSE_SECONDS

    def test_suspended_with_little_time(self) -> None:
        """So nothing is ended for it, however short --clip-timeout is."""
        dog = after(1, at(1, allowed=3.0))
        dog.look(86_400.0, [at(1, allowed=3.0)])
        assert dog.overdue() is None
        dog.look(86_401.0, [at(1, allowed=3.0)])
        assert dog.overdue() is not None

    def test_stopped_worker(self) -> None:
        """No time passes for a worker that somebody has stopped: when it is let go, its clip has all the time it had."""
        dog = after(30, at(1))
        for second in range(31, 1000):
            dog.look(float(second), [at(1)], stopped=True)
        assert dog.overdue() is None
        dog.look(1000.0, [at(1)])
        assert dog.longest() == Stall(at(1), 31.0)


class TestLoading:
    def dog(self, *efforts: Effort, what: What = "load") -> Watchdog:
        dog = Watchdog(0.0)
        for second, effort in enumerate(efforts):
            dog.look(float(second), [at(1, what=what)], effort)
        return dog

    def test_reading_and_computing_are_progress(self) -> None:
        """A model that a slow file system takes hours to deliver loads to its end, and so does one that is compiled."""
        assert self.dog(*(Effort(read_bytes=5000 * second) for second in range(500))).overdue() is None
        assert self.dog(*(Effort(faults=second) for second in range(500))).overdue() is None
        assert self.dog(*(Effort(cpu_seconds=0.5 * second) for second in range(500))).overdue() is None

    def test_waiting_is_none(self) -> None:
        """One that only looks now and then whether it may go on is ended; people see since when, in any case."""
        assert self.dog(*(Effort(cpu_seconds=0.01 * second) for second in range(61))).overdue() is not None
        busy = self.dog(*(Effort(cpu_seconds=second) for second in range(500))).longest()
        assert busy is not None
        assert busy.seconds == 499.0

    def test_a_clip_that_computes_for_ever(self) -> None:
        """Of decoding and encoding the steps are known: there computing is no progress."""
        assert self.dog(*(Effort(cpu_seconds=second) for second in range(61)), what="decode").overdue() is not None


class TestHopeless:
    def test_time_to_finish_what_is_in_hand(self) -> None:
        """After a request to stop a step has half a minute in all, and a few seconds in any case."""
        stuck = after(int(PATIENCE_SECONDS), at(1))
        assert stuck.hopeless(NOTICE_SECONDS - 1) is None
        assert stuck.hopeless(NOTICE_SECONDS) == Stall(at(1), PATIENCE_SECONDS)
        assert after(int(PATIENCE_SECONDS) - 1, at(1)).hopeless(1000.0) is None

    def test_nothing_in_hand(self) -> None:
        """Who is at nothing comes to its end by itself."""
        assert after(1000).hopeless(1000.0) is None
