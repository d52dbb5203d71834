"""jobs/activities.py: another process sees what a worker's threads are at, and which of them gets on."""

from __future__ import annotations

import math
import os
import threading

import pytest

from jobs import activities as module
from jobs.activities import BASE_SECONDS, LOAD_SECONDS, PER_AUDIO_SECOND, Activities, What, allowed_seconds

TEN_HOURS = 36_000.0


class TestSeen:
    def test_by_another_process(self) -> None:
        """What a forked worker begins is seen by its parent, in words, and is gone when it has ended."""
        activities = Activities()
        begun, go_on = os.pipe(), os.pipe()
        worker = os.fork()
        if worker == 0:
            with activities.doing("decode", tar="a", clip=7):
                os.write(begun[1], b"x")
                os.read(go_on[0], 1)
            os.write(begun[1], b"x")
            os._exit(0)
        os.read(begun[0], 1)
        (seen,) = activities.seen()
        os.write(go_on[1], b"x")
        os.read(begun[0], 1)
        after = activities.seen()
        os.waitpid(worker, 0)
        for fd in (*begun, *go_on):
            os.close(fd)
        assert (str(seen), seen.clip, seen.concerns("a"), seen.concerns("b")) == ("decoding clip 7 of a", 7, True, False)
        assert after == []

    def test_a_sign_changes_the_stamp_and_nothing_else(self) -> None:
        """So does beginning the same thing again: who compares stamps cannot mistake one step for the next."""
        activities = Activities()
        stamps = set()
        for _ in range(2):
            with activities.doing("read", tar="a", about="/d/a.tar") as step:
                for _ in step.each("xy"):
                    (seen,) = activities.seen()
                    stamps.add(seen.stamp)
        assert len(stamps) == 4
        assert str(seen) == "reading /d/a.tar"

    def test_who_waits_is_not_seen(self) -> None:
        """A thread that waits for others is at nothing; afterwards it is again."""
        activities = Activities()
        with activities.doing("read", tar="a") as step:
            with step.waiting():
                assert activities.seen() == []
            assert len(activities.seen()) == 1

    def test_who_waits_far_from_its_step(self) -> None:
        """What the thread is at by then is not seen, as with its step at hand; what other threads are at is."""
        activities = Activities()
        with activities.waiting(), activities.doing("encode", tar="a"):
            with activities.doing("write", about="b"), activities.waiting():
                assert [one.what for one in activities.seen()] == ["encode"]
            with activities.waiting():
                assert activities.seen() == []
                other = threading.Thread(target=lambda: activities.waiting().__enter__())
                other.start()
                other.join()
            assert [one.what for one in activities.seen()] == ["encode"]

    def test_threads_are_told_apart(self) -> None:
        """Each has its own place, and gives it back."""
        activities = Activities()
        inside, leave = threading.Barrier(4), threading.Barrier(4)

        def decode(clip: int) -> None:
            with activities.doing("decode", tar="a", clip=clip):
                inside.wait()
                leave.wait()

        threads = [threading.Thread(target=decode, args=(clip,)) for clip in range(3)]
        for thread in threads:
            thread.start()
        inside.wait()
        seen = activities.seen()
        leave.wait()
        for thread in threads:
            thread.join()
        assert {one.clip for one in seen} == {0, 1, 2}
        assert activities.seen() == []

    def test_more_threads_than_places(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those beyond work on unseen."""
        monkeypatch.setattr(module, "SLOTS", 1)
        activities = Activities()
        with activities.doing("load"), activities.doing("read") as step:
            step.sign()
            with step.waiting():
                assert [one.what for one in activities.seen()] == ["load"]

    @pytest.mark.parametrize("name", ["é語/" * 500, "caf\udce9", ""])
    def test_any_name(self, name: str) -> None:
        """Long ones are cut, bytes that are no text are written out, and a tar still knows its own."""
        activities = Activities()
        with activities.doing("decode", tar=name, clip=0, about=name):
            (seen,) = activities.seen()
        assert seen.concerns(name)
        str(seen).encode()


class TestAllowed:
    def test_by_the_audio_in_hand(self) -> None:
        """A clip of ten hours has a hundred; a short one, and a read of a tar, as long as a file system takes to recover."""
        assert allowed_seconds("encode", TEN_HOURS, None) == BASE_SECONDS + PER_AUDIO_SECOND * TEN_HOURS > 10 * TEN_HOURS
        assert allowed_seconds("read", 0.0, None) == BASE_SECONDS >= 600
        assert allowed_seconds("load", 0.0, None) == LOAD_SECONDS >= 3600

    @pytest.mark.parametrize("what", ["load", "read", "decode", "encode"])
    def test_as_asked_for(self, what: What) -> None:
        """The seconds of --clip-timeout hold for every step; 0 ends none."""
        assert allowed_seconds(what, TEN_HOURS, 5.0) == 5.0
        assert allowed_seconds(what, TEN_HOURS, 0.0) == math.inf

    def test_writing_is_never_ended(self) -> None:
        """The next worker would wait for the same file system."""
        assert allowed_seconds("write", 0.0, 5.0) == math.inf

    def test_audio_that_becomes_known_later(self) -> None:
        """A decoded clip that is resampled in one piece has a time that fits it."""
        activities = Activities()
        with activities.doing("decode", tar="a", clip=0) as step:
            step.sign(TEN_HOURS)
            (seen,) = activities.seen()
        assert seen.allowed == allowed_seconds("decode", TEN_HOURS, None)
