"""hpc/deaths.py: how a worker died, which of the tars in hand it counts for, and what the next worker of the task does."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from hpc.deaths import Death, Tried, explain, may_go_on, timed_out_clips, what_was_tried, write_down_death
from jobs.activities import Activity, What
from jobs.memory_events import OomKills
from jobs.progress import Ending, Progress, Try
from jobs.watchdog import Stall

CRASH = Death("fault", "the worker was killed by SIGSEGV")
KILL = Death("outside", "killed by signal 9 without a memory event: someone or something on n1 kills it")


def stalled(what: What, tar: str = "", clip: int | None = None) -> Death:
    stall = Stall(Activity(0, 1, 600.0, what, tar, clip, "/d/a.tar"), 612.0)
    return Death("stall", f"the worker was ended: {stall}", stall)


def explained(number: int, before: int | None = 3, after: int | None = 3, stall: Stall | None = None) -> Death:
    counts = [None if count is None else OomKills("/sys/fs/cgroup/x/memory.events", count) for count in (before, after)]
    return explain(number, stall, *counts, node="n1")


class TestExplain:
    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE])
    def test_crash(self, number: signal.Signals) -> None:
        """What a process does to itself is called by its name, whatever else went on in its group meanwhile."""
        for after in (3, 4, None):
            assert explained(number, after=after) == Death("fault", f"the worker was killed by {number.name}")

    def test_out_of_memory(self) -> None:
        """SIGKILL while the kernel's count has grown is the kernel's; the words are the same for all jobs."""
        death = explained(signal.SIGKILL, after=4)
        assert death.cause == "memory"
        assert death.words == "the kernel's out-of-memory killer ended the worker (oom_kill in memory.events)"

    def test_killed_by_somebody(self) -> None:
        """SIGKILL without a count is told as what it is, with the node."""
        assert explained(signal.SIGKILL) == KILL

    def test_nobody_counts(self) -> None:
        """An old kernel leaves it open: then it is taken for want of memory, as it mostly is, and says so."""
        for before, after in ((None, None), (3, None), (None, 3)):
            death = explained(signal.SIGKILL, before, after)
            assert death.cause == "memory"
            assert "cannot be seen on n1" in death.words
        moved = explain(9, None, OomKills("/a", 3), OomKills("/b", 4), node="n1")
        assert moved.cause == "memory"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGRTMIN + 3])
    def test_other_signals_are_sent_by_somebody(self, number: int) -> None:
        """A limit of CPU time, a closed terminal, a person: none of that is a clip's doing."""
        death = explained(number)
        assert death.cause == "outside"
        assert "someone or something on n1 kills it" in death.words

    def test_ended_by_its_witness(self) -> None:
        """It says at what, and for how long; a crash at the last moment is a crash."""
        stall = Stall(Activity(0, 1, 600.0, "decode", "a", 7), 612.0)
        assert explained(signal.SIGKILL, stall=stall).words == (
            "the worker was ended: decoding clip 7 of a has made no progress for 612 s"
        )
        assert explained(signal.SIGSEGV, stall=stall).cause == "fault"


class TestNextWorker:
    def test_a_tar_is_searched_once(self) -> None:
        """The task that has found the clip leaves the tar to others."""
        died = Try("a", "died", several=True)
        assert what_was_tried([Try("b", "committed"), died]) == Tried(frozenset({"b"}), frozenset({"a"}))
        found = Try("a", "died", clip=3, alone=True)
        assert what_was_tried([died, found]) == Tried(skip=frozenset({"a"}))

    @pytest.mark.parametrize("outcome", ["killed", "yielded"])
    def test_tars_that_had_no_part_in_it(self, outcome: Ending) -> None:
        """They go on with the next worker, and clip by clip if they did."""
        died = Try("a", "died", several=True)
        assert what_was_tried([Try("b", outcome)]) == Tried()
        assert what_was_tried([died, Try("a", outcome, alone=True)]) == Tried(search=frozenset({"a"}))

    def test_whether_there_is_one(self) -> None:
        """Not where the machine could not load the backend; a tar that cannot be read keeps nobody from the others."""
        assert may_go_on(CRASH, [Try("a", "died", several=True)])
        assert may_go_on(CRASH, [Try("a", "died", clip=3)])
        assert not may_go_on(CRASH, [Try("a", "died")])
        assert may_go_on(KILL, [])
        assert may_go_on(stalled("read", "a"), [Try("a", "machine")])
        assert not may_go_on(stalled("load"), [Try("a", "died")])


class TestWrittenDown:
    def test_clip_in_hand_is_the_one_after_the_last_line(self, tmp_path: Path) -> None:
        """Lines stand in the tar's order, so their number is the number of the clip; half a line is none."""
        (tmp_path / "a.jsonl.partial").write_bytes(b"{}\n{}\n{}")
        attempt = Try("a", "working", alone=True)
        report = Progress(tries=[Try("b", "committed"), attempt])
        assert write_down_death(report, tmp_path, CRASH, asked=False) == [attempt]
        assert (attempt.outcome, attempt.clip, attempt.several, attempt.timed_out) == ("died", 2, False, False)
        assert report.tries[0] == Try("b", "committed")
        assert "SIGSEGV" in attempt.problem

    def test_several_clips_in_hand(self, tmp_path: Path) -> None:
        """None of them is blamed, in whichever of the tars in hand it was."""
        (tmp_path / "a.jsonl.partial").write_bytes(b"{}\n")
        report = Progress(tries=[Try("a", "working"), Try("b", "working"), Try("c", "loading")])
        assert len(write_down_death(report, tmp_path, CRASH, asked=False)) == 3
        assert [(one.outcome, one.clip, one.several) for one in report.tries] == [
            ("died", None, True),
            ("died", None, True),
            ("died", None, False),
        ]

    def test_no_line_yet(self, tmp_path: Path) -> None:
        """Without a partial it was the first clip."""
        report = Progress(tries=[Try("a", "working", alone=True)])
        write_down_death(report, tmp_path, CRASH, asked=False)
        assert report.tries[-1].clip == 0

    def test_no_clip_in_hand(self, tmp_path: Path) -> None:
        """A death while the backend is loaded is no clip's."""
        report = Progress(tries=[Try("a", "loading")])
        write_down_death(report, tmp_path, CRASH, asked=False)
        assert (report.tries[-1].outcome, report.tries[-1].clip, report.tries[-1].several) == ("died", None, False)
        assert "while it loaded the backend" in report.tries[-1].problem

    @pytest.mark.parametrize("tries", [[], [Try("a", "committed")], [Try("a", "machine")]])
    @pytest.mark.parametrize("death", [CRASH, KILL, stalled("encode")])
    def test_between_tars(self, tries: list[Try], death: Death, tmp_path: Path) -> None:
        """Who had no tar in hand leaves nothing to write down; what had ended stays as it ended."""
        report = Progress(tries=msgspec.convert(msgspec.to_builtins(tries), list[Try]))
        assert write_down_death(report, tmp_path, death, asked=False) == []
        assert report.tries == tries

    @pytest.mark.parametrize("death", [CRASH, KILL, stalled("read", "a")])
    def test_after_a_request_to_stop(self, death: Death, tmp_path: Path) -> None:
        """Whoever asked may have lost patience: nobody is to blame."""
        report = Progress(tries=[Try("a", "working")])
        assert write_down_death(report, tmp_path, death, asked=True) == []
        assert report.tries == [Try("a", "working")]

    def outcomes(self, death: Death, tmp_path: Path, *tries: Try) -> dict[str, tuple[str, int | None, bool, bool]]:
        report = Progress(tries=list(tries))
        write_down_death(report, tmp_path, death, asked=False)
        return {one.name: (one.outcome, one.clip, one.several, one.timed_out) for one in report.tries}

    def test_killed_from_outside(self, tmp_path: Path) -> None:
        """It is one try, however many tars were in hand, and blames no clip, though only one was in hand."""
        found = self.outcomes(KILL, tmp_path, Try("a", "working"), Try("b", "working"))
        assert found == {"a": ("killed", None, False, False), "b": ("yielded", None, False, False)}
        assert self.outcomes(KILL, tmp_path, Try("a", "working", alone=True))["a"] == ("killed", None, False, False)
        assert self.outcomes(KILL, tmp_path, Try("a", "loading"))["a"] == ("killed", None, False, False)

    def test_clip_that_never_ends(self, tmp_path: Path) -> None:
        """As a death with that clip in hand, marked as what it was; with several in hand, only of the tars concerned."""
        (tmp_path / "a.jsonl.partial").write_bytes(b"{}\n{}\n")
        alone = self.outcomes(stalled("decode", "a", 2), tmp_path, Try("a", "working", alone=True))
        assert alone["a"] == ("died", 2, False, True)
        both = self.outcomes(stalled("decode", "a", 2), tmp_path, Try("a", "working"), Try("b", "working"))
        assert both == {"a": ("died", None, True, True), "b": ("yielded", None, False, False)}
        mixed = self.outcomes(stalled("encode"), tmp_path, Try("a", "working"), Try("b", "working"))
        assert mixed == {"a": ("died", None, True, True), "b": ("died", None, True, True)}

    def test_clip_of_a_tar_that_is_over(self, tmp_path: Path) -> None:
        """What a failed tar left in a decoder's hands is not blamed on the tar that comes after it."""
        found = self.outcomes(stalled("decode", "gone", 7), tmp_path, Try("a", "working", alone=True))
        assert found == {"a": ("yielded", None, False, False)}

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize("outcome", ["loading", "working"])
    def test_tar_that_cannot_be_read(self, outcome: Ending, tmp_path: Path, *, alone: bool) -> None:
        """A file system that does not answer is the machine's trouble, told with the path, and no clip's."""
        report = Progress(tries=[Try("b", "working"), Try("a", outcome, alone=alone)])
        assert write_down_death(report, tmp_path, stalled("read", "a"), asked=False) == report.tries[1:]
        assert [(one.outcome, one.clip, one.several) for one in report.tries] == [
            ("yielded", None, False),
            ("machine", None, False),
        ]
        assert "reading /d/a.tar has made no progress for 612 s; does its file system answer?" in report.tries[1].problem

    def test_backend_that_never_loads(self, tmp_path: Path) -> None:
        """It is said in place of what the tar is; no clip has anything to do with it."""
        report = Progress(tries=[Try("a", "loading", alone=True)])
        write_down_death(report, tmp_path, stalled("load", "a"), asked=False)
        assert (report.tries[0].outcome, report.tries[0].clip) == ("died", None)
        assert report.tries[0].problem == "the worker was ended: loading the backend has made no progress for 612 s"


def test_what_a_given_up_clip_did() -> None:
    """One that only ever ran out of time is told from one that has crashed a worker, too."""
    tries = [
        Try("a", "died", clip=1, timed_out=True),
        Try("a", "died", clip=1, timed_out=True),
        Try("a", "died", clip=2, timed_out=True),
        Try("a", "died", clip=2),
        Try("b", "died", clip=1),
    ]
    assert timed_out_clips({"a": (1, 2), "b": (1,)}, tries) == {"a": (1,)}
