"""hpc/policy.py: what counts against which tar, clip and node, and when the loop goes on, stops or is done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.tries import at, good, history, killed, tars

from hpc.outside_kills import KILLS_REPORTED
from hpc.policy import CLIP_DEATHS, HOLD_TARS, IDLE_ROUNDS, TAR_TRIES, Decision, decide
from hpc.storage_waits import STORAGE_ROUNDS
from hpc.tries import Evidence, NodeTry
from jobs.progress import Kept


class TestWhereThingsStand:
    def test_nothing_known_yet(self) -> None:
        """Every tar that is neither done nor taken gets a task, in the order of the list."""
        decision = decide(tars("dcba", c={"done": True}, b={"taken": True}), [])
        assert decision == Decision(outcome="running", submit=("d", "a"))

    def test_taken_by_a_task_that_may_live(self) -> None:
        """What may be worked on is waited for, whatever the history says of it."""
        failed = history([at("a", "failed")], [at("a", "failed")], [at("a", "failed")])
        decision = decide(tars("a", a={"taken": True, "broken": "cut"}), failed)
        assert decision == Decision(outcome="running")

    def test_finished(self) -> None:
        """All done is finished, however it came about; so is an empty list."""
        assert decide(tars("ab", a={"done": True}, b={"done": True}), history([at("a", "machine")])).outcome == "finished"
        assert decide([], []).outcome == "finished"

    def test_done_tar_with_a_claim_left_behind(self) -> None:
        """A committed tar keeps nobody waiting, even if a task still has it in its plan."""
        assert decide(tars("a", a={"done": True, "taken": True}), []).outcome == "finished"

    def test_finished_but_for_a_quarantine(self) -> None:
        """With nothing left but tars that were given up, the run is over, and says which and why."""
        decision = decide(tars("ab", a={"done": True}), history(*[[at("b", "failed")]] * TAR_TRIES))
        assert decision.outcome == "quarantined"
        assert decision.quarantine == {"b": "3 tries without progress; the last one: b says failed"}
        assert decision.diagnosis == ""


def short(name: str, node: str = "n1", gained: int = 0) -> NodeTry:
    """A try that was yielded because memory was short."""
    return at(name, "yielded", node, gained=gained, short_of_memory=True)


class TestShortMemory:
    def test_nothing_is_blamed_and_it_goes_on(self) -> None:
        """As long as each life brings lines, the tar is just tried again, however often its workers yield."""
        decision = decide(tars("a"), history(*[[short("a", gained=1)]] * 20))
        assert decision == Decision(outcome="running", submit=("a",))

    def test_without_a_new_line_the_tar_is_tried_clip_by_clip_after_all_others(self) -> None:
        """That takes the least memory; and a tar that needs too much keeps no other one waiting."""
        decision = decide(tars("abc"), history([short("a")], [short("a"), good("b")]))
        assert (decision.outcome, decision.submit) == ("running", ("a", "b", "c"))
        assert decision.one_at_a_time == decision.short_of_memory == ("a",)
        assert decide(tars("a"), history([short("a")], [short("a", gained=1)])).short_of_memory == ()

    def test_at_the_same_place_again_it_is_stuck(self) -> None:
        """Two rounds that brought no line: a machine that is too small is told, with its words and what helps."""
        decision = decide(tars("ab"), history([good("b")], [short("a"), short("b")], [short("a"), short("b")]))
        assert decision.outcome == "stuck"
        assert "2 rounds in a row brought no new line on n1: b says yielded" in decision.diagnosis
        for advice in ("lanes", "--buffer-memory", "--mem-per-gpu"):
            assert advice in decision.diagnosis
        assert decide(tars("ab"), history([short("a")])).outcome == "running"

    def test_other_reasons_to_stop_are_not_taken_for_it(self) -> None:
        """A time limit, or a tar that fails, in the same round: their counts go on as ever."""
        decision = decide(tars("ab"), history([short("a"), at("b", "failed")], [short("a"), at("b", "failed")]))
        assert (decision.outcome, decision.diagnosis) == ("running", "")
        assert decide(tars("a"), history([at("a", "yielded")], [at("a", "yielded")])).diagnosis == ""


def full(name: str, node: str = "n1", storage: str = "full", gained: int = 0) -> NodeTry:
    """A try that ended because its results could not be written."""
    return at(name, "machine", node, storage=storage, gained=gained)


def aged(rounds: list[Evidence], age_s: float) -> list[Evidence]:
    """The same, the last one submitted so long ago."""
    return [*rounds[:-1], msgspec.structs.replace(rounds[-1], age_s=age_s)]


class TestStorage:
    @pytest.mark.parametrize("storage", ["full", "away"])
    def test_no_tar_and_no_node_is_to_blame(self, storage: str) -> None:
        """However often, and wherever: once there is room, each tar gets its task again, and no node is avoided."""
        nodes = ["n1", "n2", "n3", "n4"]
        troubled = [[full(name, node, storage) for name, node in zip("abcd", nodes, strict=True)]] * 20
        assert decide(tars("abcd"), history(*troubled)) == Decision(outcome="running", submit=tuple("abcd"))
        decision = decide(tars("abc", c={"taken": True}), history(*troubled, [good("d", "n2")]))
        assert decision == Decision(outcome="running", submit=("a", "b"))

    def test_it_waits_and_goes_on_by_itself(self) -> None:
        """Longer each time; the round says why it submits nothing."""
        rounds = history([full("a"), full("b")])
        decision = decide(tars("abc"), aged(rounds, 29), place="/d/out")
        assert (decision.outcome, decision.submit, decision.passes) == ("running", (), True)
        assert decision.diagnosis.startswith("no room on /d/out: make room and run hpc.resume again")
        assert decide(tars("abc"), aged(rounds, 30)) == Decision(outcome="running", submit=("a", "b", "c"))

    def test_when_it_lasts_it_is_stuck_until_the_next_try(self) -> None:
        """So that a person hears of it; a later round tries again, without a word from anyone."""
        rounds = history(*[[full("a")]] * STORAGE_ROUNDS)
        decision = decide(tars("ab"), aged(rounds, 0))
        assert (decision.outcome, decision.submit, decision.passes) == ("stuck", (), True)
        assert decide(tars("ab"), aged(rounds, 600)).submit == ("a", "b")
        assert decide(tars("ab", b={"taken": True}), aged(rounds, 0)).outcome == "running"

    def test_tries_before_it_still_count(self) -> None:
        """Those in between are as if they had never been."""
        failed = [at("a", "failed"), good("b")]
        rounds = history(failed, [full("a"), good("b")], failed, [full("a"), good("b")], failed)
        assert set(decide(tars("ac"), rounds).quarantine) == {"a"}
        assert decide(tars("ac"), rounds[:-1]).quarantine == {}

    def test_a_node_that_alone_has_lost_its_storage(self) -> None:
        """It is avoided, as for any other trouble; where the storage is just full it is not."""
        for storage, excluded in (("away", {"n1"}), ("full", set())):
            rounds = history(*[[full(name, "n1", storage), good("x", "n2")] for name in "abc"])
            assert set(decide(tars("abc"), rounds).exclude) == excluded

    def test_tasks_that_ended_without_a_word(self) -> None:
        """Where there is no room for a log either: they count against nobody, and are no rounds that changed nothing."""
        rounds = [Evidence(number, ended=True, tries=(), wordless=13) for number in range(1, 20)]
        assert decide(tars("a"), rounds) == Decision(outcome="running", submit=("a",))
        decision = decide(tars("a"), aged(rounds, 0))
        assert (decision.outcome, decision.passes) == ("stuck", True)
        assert "13 tasks exited without a line" in decision.diagnosis


class TestUntrustedFiles:
    """Tries that failed because of files that a person has to remove."""

    def test_they_count_as_long_as_the_files_are_there(self) -> None:
        """As any failure does; without them the tar is as if it had never been tried, and no round as if in vain."""
        rounds = history(*[[at("a", "failed", untrusted=True)]] * TAR_TRIES * 2)
        assert set(decide(tars("a", a={"untrusted": True}), rounds).quarantine) == {"a"}
        assert decide(tars("a"), rounds) == Decision(outcome="running", submit=("a",))

    def test_other_failures_count_on(self) -> None:
        """Those of the same tar, and those of others in the same rounds."""
        rounds = history(*[[at("a", "failed", untrusted=True), at("b", "failed")]] * TAR_TRIES, [at("a", "failed")])
        decision = decide(tars("ab"), rounds)
        assert (decision.submit, set(decision.quarantine)) == (("a",), {"b"})
        again = history(*[[at("a", "failed", untrusted=True)]] * TAR_TRIES, *[[at("a", "failed")]] * TAR_TRIES)
        assert set(decide(tars("a"), again).quarantine) == {"a"}

    def test_many_of_them_do_not_stop_the_run_for_ever(self) -> None:
        """A run is stuck while most of its tars have such files, and goes on when they are gone."""
        rounds = history([at(name, "failed", untrusted=True) for name in "abcdef"])
        assert decide(tars("abcdef", **{name: {"untrusted": True} for name in "abcdef"}), rounds).outcome == "stuck"
        assert decide(tars("abcdef"), rounds).submit == tuple("abcdef")


class TestTars:
    @pytest.mark.parametrize("outcome", ["failed", "machine", "died"])
    def test_three_tries_without_progress(self, outcome: str) -> None:
        """Two such tries are forgiven; the third puts the tar in quarantine, and the others go on."""
        tried = [[at("a", outcome, f"n{number}"), good("b", f"n{number}")] for number in range(TAR_TRIES)]
        assert decide(tars("ac"), history(*tried[:-1])).submit == ("a", "c")
        decision = decide(tars("ac"), history(*tried))
        assert (set(decision.quarantine), decision.submit) == ({"a"}, ("c",))

    def test_progress_begins_the_count_again(self) -> None:
        """Only tries in a row count: one new line in between forgives those before."""
        failed, gained = [at("a", "failed")], [at("a", "failed", gained=1)]
        assert decide(tars("a"), history(failed, failed, gained, failed, failed)).submit == ("a",)
        assert decide(tars("a"), history(failed, gained, failed, failed, failed)).outcome == "quarantined"

    @pytest.mark.parametrize("outcome", ["loading", "working", "yielded", "left_alone"])
    def test_what_was_stopped_from_outside_counts_against_nobody(self, outcome: str) -> None:
        """Time limits, preemption, cancelled jobs and dead nodes: however many, no tar, clip or node is blamed."""
        stopped = [[at("a", outcome, node), good("b")] for node in ("n1", "n2") for _ in range(2 * TAR_TRIES)]
        decision = decide(tars("a"), history(*stopped))
        assert decision == Decision(outcome="running", submit=("a",))

    def test_tasks_that_left_no_report(self) -> None:
        """A pending element that was cancelled has no try at all; its tar just gets another task."""
        assert decide(tars("ab"), history([good("b")], [good("c")])).submit == ("a", "b")

    def test_data_verdict(self) -> None:
        """A broken tar is given up at its first try, with the verdict; its lines before the fault do not save it."""
        decision = decide(tars("ab", a={"broken": "cut: at byte 700"}), history([at("a", "damaged", gained=4)]))
        assert decision.quarantine == {"a": "cut: at byte 700"}
        assert decision.submit == ("b",)

    def test_broken_tar_that_was_replaced(self) -> None:
        """Once the file is another, the old verdict keeps nobody out, nor do the deaths of clips of the old file."""
        before = history([killed("a", gained=2), killed("a")], [at("a", "damaged")])
        decision = decide(tars("a"), before)
        assert decision == Decision(outcome="running", submit=("a",), one_at_a_time=("a",))

    def test_verdict_of_an_earlier_time(self) -> None:
        """--retry-quarantined leaves the evidence out: the tar gets its task, though its verdict still stands on disk."""
        assert decide(tars("a", a={"broken": "cut"}), []).submit == ("a",)


class TestClips:
    def test_second_death_makes_a_record(self) -> None:
        """A clip may kill one worker; after two the tar is tried without it. Clips are told apart."""
        first = [killed("a", 7, gained=7), killed("b", 2, gained=2)]
        decision = decide(tars("ab"), history(first))
        assert (decision.submit, decision.crash_clips) == (("a", "b"), {})
        decision = decide(tars("ab"), history(first, [killed("a", 7), killed("b", 3, gained=1)]))
        assert (decision.submit, decision.crash_clips) == (("a", "b"), {"a": (7,)})
        assert decision.exclude == {}

    def test_after_a_death_clips_are_taken_one_at_a_time(self) -> None:
        """In a batch the first clip without a line need not be the one that kills: the next worker is to show which is."""
        decision = decide(tars("ab"), history([killed("a", 7, gained=7), good("b")]))
        assert decision.one_at_a_time == ("a",)

    def test_what_kind_of_record(self) -> None:
        """A clip that was ended twice for want of progress is told as that; one that crashed a worker too, as a crash."""
        late: dict[str, Any] = {"outcome": "died", "timed_out": True}
        first = [at("a", clip=7, gained=7, **late), at("b", clip=2, gained=2, **late)]
        decision = decide(tars("ab"), history(first, [at("a", clip=7, **late), killed("b", 2)]))
        assert (decision.crash_clips, decision.timed_out) == ({"a": (7,), "b": (2,)}, {"a": (7,)})

    def test_killed_by_somebody_at_one_clip(self) -> None:
        """However often, no clip becomes a record, no tar is searched, and nobody is blamed until it is too much."""
        kill = at("a", "killed")
        decision = decide(tars("ab"), history(*[[kill, good("b")]] * (KILLS_REPORTED - 1)))
        assert decision == Decision(outcome="running", submit=("a", "b"))

    def test_deaths_by_a_clip_do_not_count_against_its_tar(self) -> None:
        """Two tries failed for another reason, two died with a clip in hand: the clip is given up, the tar is not."""
        failed = [at("a", "failed"), good("b")]
        died = [killed("a", 0), good("b")]
        expected = Decision(outcome="running", submit=("a",), one_at_a_time=("a",))
        assert decide(tars("a"), history(failed, failed, died)) == expected
        decision = decide(tars("a"), history(failed, failed, died, died))
        assert (decision.crash_clips, decision.quarantine) == ({"a": (0,)}, {})

    def test_several_clips_of_one_tar(self) -> None:
        """Each clip that kills twice is left out, one after another."""
        rounds = history(
            [killed("a", 3, gained=3)],
            [killed("a", 3)],
            [killed("a", 5, gained=2, told=(3,))],
            [killed("a", 5, told=(3,))],
        )
        assert decide(tars("a"), rounds).crash_clips == {"a": (3, 5)}

    def test_death_at_a_clip_that_nobody_touched(self) -> None:
        """If leaving a clip out does not help, it was not the clip: from there on the tar is at fault."""
        rounds = [[killed("a", gained=7)], [killed("a")], *[[killed("a", told=(7,))]] * TAR_TRIES]
        assert decide(tars("a"), history(*rounds[:-1])).submit == ("a",)
        assert set(decide(tars("a"), history(*rounds)).quarantine) == {"a"}

    def test_machine_that_kills_with_every_clip(self) -> None:
        """Where nothing goes well, not clip after clip is turned into records: after two it is the tar that is given up."""
        rounds: list[list[NodeTry]] = []
        told: tuple[int, ...] = ()
        while (decision := decide(tars("a"), history(*rounds))).submit:
            now_told = decision.crash_clips.get("a", ())
            rounds.append([killed("a", clip=len(now_told), gained=len(now_told) - len(told), told=now_told)])
            told = now_told
            assert len(rounds) < 20
        assert decision.outcome == "quarantined"
        assert len(told) == 2

    def test_clips_that_kill_on_several_nodes(self) -> None:
        """What killed on two nodes that both work is no clip in doubt, however many of them stand in a row."""
        rounds = [[good("x", "n1"), good("y", "n2")]]
        for clip in range(4):
            rounds += [[killed("a", clip, node, told=tuple(range(clip)))] for node in ("n1", "n2")]
        assert decide(tars("a"), history(*rounds)).crash_clips == {"a": (0, 1, 2, 3)}

    def test_bad_clips_are_all_that_is_left(self) -> None:
        """At the end of a list every try dies: on one machine too that is no trouble with machines."""
        names = "abcdefgh"
        first = [killed(name, gained=5) for name in names]
        decision = decide(tars(names), history(first, [killed(name) for name in names]))
        assert decision.crash_clips == dict.fromkeys(names, (7,))
        assert (decision.exclude, decision.diagnosis) == ({}, "")

    def test_second_deaths_that_meet_on_a_node(self) -> None:
        """Clips that have killed on other nodes before speak for the node where they kill again."""
        first = [killed("a", node="n1", gained=5), killed("b", node="n2", gained=5), good("c", "n3")]
        decision = decide(tars("abd"), history(first, [killed("a", node="n3"), killed("b", node="n3")]))
        assert (decision.exclude, decision.crash_clips) == ({}, {"a": (7,), "b": (7,)})


def within(name: str, before: int, after: int, outcome: str = "died", clip: int = 7, **details: Any) -> NodeTry:
    """A try that got so far within a long clip."""
    return at(name, outcome, clip=clip if outcome == "died" else None, kept=Kept(clip, before, after), **details)


class TestLongClips:
    def test_coming_further_within_a_clip_is_progress(self) -> None:
        """However often a worker yields within it, fails or dies, nothing is given up, and the loop does not stop."""
        for outcome in ("yielded", "failed", "machine", "died", "killed"):
            rounds = [[within("a", n, n + 1, outcome)] for n in range(30)]
            decision = decide(tars("a"), history(*rounds))
            assert (decision.outcome, decision.submit, decision.crash_clips) == ("running", ("a",), {}), outcome

    def test_where_nothing_is_added_it_is_none(self) -> None:
        """It counts as for any tar."""
        rounds = [[within("a", 0, 9, "machine")], *[[within("a", 9, 9, "machine")]] * TAR_TRIES]
        assert decide(tars("a"), history(*rounds[:-1])).submit == ("a",)
        assert set(decide(tars("a"), history(*rounds)).quarantine) == {"a"}

    def test_a_journal_that_nobody_can_use_comes_to_an_end(self) -> None:
        """Each try makes the same again and adds nothing to it: it is not tried for ever."""
        rounds = [[within("a", 0, 9, "machine")]] * (1 + TAR_TRIES)
        assert set(decide(tars("a"), history(*rounds)).quarantine) == {"a"}
        dies = [[good("b"), within("a", 0, 9)]] * CLIP_DEATHS
        assert decide(tars("a"), history(*dies)).crash_clips == {"a": (7,)}

    def test_a_clip_that_kills_at_the_same_place_becomes_a_record(self) -> None:
        """Two workers that died beyond the same place do that; one that came further begins the count again."""
        rounds = [
            [killed("a", 7, gained=7)],
            [within("a", 0, 40)],
            [within("a", 40, 50, "yielded")],
            [killed("a", 7)],
            [within("a", 50, 60)],
            [within("a", 60, 60)],
        ]
        assert decide(tars("a"), history(*rounds[:-1])).crash_clips == {}
        decision = decide(tars("a"), history(*rounds))
        assert (decision.crash_clips, decision.one_at_a_time) == ({"a": (7,)}, ("a",))

    def test_short_memory_on_the_way(self) -> None:
        """A try that came further is no reason to put the tar last."""
        yielded = within("a", 0, 5, "yielded", short_of_memory=True)
        assert decide(tars("ab"), history([yielded])).short_of_memory == ()
        assert decide(tars("ab"), history([short("a")])).short_of_memory == ("a",)

    def test_storage_that_took_some_of_it(self) -> None:
        """Then it works: nothing waits."""
        filled = within("a", 0, 5, "machine", storage="full")
        assert decide(tars("a"), aged(history([filled]), 0)).submit == ("a",)


class TestKills:
    def test_one_tar(self) -> None:
        """It is put aside, in the words of the last kill, and the others go on."""
        rounds = [[at("a", "killed"), good("c", "n1")]] * KILLS_REPORTED
        decision = decide(tars("ab"), history(*rounds))
        assert decision.quarantine == {"a": f"a says killed ({KILLS_REPORTED} times)"}
        assert decision.submit == ("b",)

    def test_everything(self) -> None:
        """Where nothing else happens any more the run is stuck, and says what happens."""
        names = "abcdefgh"
        decision = decide(tars(names), history([at(name, "killed", "n1") for name in names[:KILLS_REPORTED]]))
        assert (decision.outcome, decision.submit) == ("stuck", ())
        assert f"workers were killed {KILLS_REPORTED} times on n1 without a memory event" in decision.diagnosis

    def test_a_node(self) -> None:
        """It is avoided where others work, and counts against no tar any more."""
        kills = [at("a", "killed", "n1")] * KILLS_REPORTED
        decision = decide(tars("ab"), history([good("c", "n2")], kills))
        assert (set(decision.exclude), decision.quarantine, decision.submit) == ({"n1"}, {}, ("a", "b"))

    def test_rounds_in_which_somebody_kills_are_no_standstill(self) -> None:
        """They are told as what they are, or as nothing."""
        assert decide(tars("a"), history(*[[at("a", "killed")]] * IDLE_ROUNDS)).submit == ("a",)


class TestStopping:
    def test_same_trouble_everywhere(self) -> None:
        """A full disk, or no working GPU anywhere, stops the loop at once; nothing is put in quarantine."""
        names = "abcdef"
        decision = decide(tars(names), history([at(name, "machine", f"n{name}") for name in names]))
        assert (decision.outcome, decision.submit, decision.quarantine) == ("stuck", (), {})
        assert "6 tars met machine trouble" in decision.diagnosis
        assert decide(tars(names), history([at(name, "machine", f"n{name}") for name in "ab"])).submit == tuple(names)

    def test_workers_that_die_everywhere(self) -> None:
        """A library that crashes on every node makes no records: three first clips that kill are enough to stop."""
        died = [killed(name, 0, f"n{name}") for name in "abc"]
        decision = decide(tars("abcd"), history([good("x")], died))
        assert (decision.outcome, decision.crash_clips) == ("stuck", {})

    def test_workers_that_die_in_the_middle_of_tars(self) -> None:
        """Clips after good lines may well be bad, but not ten at once: so many stop the loop before they become records."""
        names = "abcdefghij"
        died = [killed(name, 7, f"n{name}") for name in names]
        assert decide(tars(names), history(died[1:])).submit == tuple(names)
        assert decide(tars(names), history(died)).outcome == "stuck"

    def test_trouble_on_a_node_that_is_avoided(self) -> None:
        """Knowing which node to avoid is progress: however many tars failed there, they are tried elsewhere."""
        failed = [at(name, "machine", "bad") for name in "abcd"]
        assert decide(tars("abcd"), history([good("x", "n2")], failed)).submit == ("a", "b", "c", "d")

    def test_trouble_before_something_went_well(self) -> None:
        """One tar that got on since shows that the trouble is over."""
        failed = [at(name, "machine", f"n{name}") for name in "abc"]
        assert decide(tars("abc"), history(failed, [good("x")])).submit == ("a", "b", "c")

    def test_while_others_run_it_takes_more(self) -> None:
        """Older tasks may run on where new ones fail: then ten tars have to fail until nothing more is submitted."""
        names = "abcdefghij"
        assert len(names) == HOLD_TARS
        facts = tars(names + "z", z={"taken": True})
        failed = [at(name, "machine", f"n{name}") for name in names]
        assert decide(facts, history(failed[:-1])).submit == tuple(names)
        decision = decide(facts, history(failed))
        assert (decision.outcome, decision.submit) == ("running", ())
        assert "10 tars met machine trouble" in decision.diagnosis

    def test_list_that_nobody_can_read(self) -> None:
        """If most tars cannot be opened, a file system is missing, not each of them."""
        failed = [at(name, "failed", f"n{name}") for name in "abcd"]
        decision = decide(tars("abcdef"), history(failed))
        assert decision.outcome == "stuck"
        assert "4 of 6 tars" in decision.diagnosis
        assert decide(tars("abcdefgh"), history(failed)).outcome == "running"

    def test_some_tars_that_are_missing(self) -> None:
        """A few names too many in the list are put in quarantine, each on its own account, though nothing else is left."""
        failed = [at(name, "failed") for name in "abc"]
        done = {name: {"done": True} for name in "stuvwx"}
        rounds = history([good(name) for name in done] + failed, failed, failed)
        decision = decide(tars("abc" + "stuvwx", **done), rounds)
        assert (decision.outcome, set(decision.quarantine)) == ("quarantined", set("abc"))

    def test_tar_that_joined_later(self) -> None:
        """Tries that still count towards a quarantine are no standstill: a tar of the second round gets its third try."""
        a, b = at("a", "failed"), at("b", "failed")
        decision = decide(tars("ab"), history([a], [a, b], [a, b]))
        assert (decision.submit, set(decision.quarantine)) == (("b",), {"a"})

    def test_tasks_that_never_come_to_their_work(self) -> None:
        """Three tasks with a log and no report, and the environment is broken; one or two may have been unlucky."""
        assert decide(tars("a"), history([], silent=2)).submit == ("a",)
        decision = decide(tars("a"), history([], silent=3))
        assert decision.outcome == "stuck"
        assert "3 tasks exited before starting work" in decision.diagnosis
        assert decide(tars("ab", b={"taken": True}), history([], silent=3)).submit == ("a",)
        assert decide(tars("a"), history([at("b", "loading")], silent=3)).submit == ("a",)

    def test_one_silent_task_again_and_again(self) -> None:
        """Round after round of it is too much as well."""
        rounds = [Evidence(number, ended=True, tries=(), silent=1) for number in range(1, 4)]
        assert decide(tars("a"), rounds[:2]).submit == ("a",)
        assert decide(tars("a"), rounds).outcome == "stuck"

    def test_rounds_that_somebody_stopped(self) -> None:
        """Cancelled or preempted, however often, they are no standstill."""
        rounds = [Evidence(number, ended=True, tries=(at("a", "loading"),), stopped=True) for number in range(1, 9)]
        assert decide(tars("a"), rounds).submit == ("a",)

    def test_rounds_that_change_nothing(self) -> None:
        """A time limit too short for the model, say: nobody is blamed, and it stops after three rounds."""
        idle = [[at("a", "loading")]] * IDLE_ROUNDS
        assert decide(tars("a"), history(*idle[:-1])).submit == ("a",)
        decision = decide(tars("a"), history(*idle))
        assert (decision.outcome, decision.quarantine) == ("stuck", {})
        assert "3 rounds of submissions in a row have changed nothing" in decision.diagnosis

    def test_submissions_of_one_round_are_one(self) -> None:
        """A round that makes many small arrays, all of which are lost with their nodes, is one round without a change."""
        lost = [Evidence(n, ended=True, tries=(at("a", "loading"),), round=0 if n == 1 else 1) for n in range(1, 6)]
        assert decide(tars("a"), lost).submit == ("a",)

    def test_while_others_run_it_takes_more_rounds(self) -> None:
        """Then ten rounds have to change nothing; one that has not ended may yet change something."""
        facts = tars("ab", b={"taken": True})
        rounds = history(*[[at("a", "loading")]] * HOLD_TARS)
        assert decide(facts, rounds[:-1]).submit == ("a",)
        decision = decide(facts, rounds)
        assert (decision.outcome, decision.submit) == ("running", ())
        rounds[-1] = Evidence(HOLD_TARS, ended=False, tries=rounds[-1].tries)
        assert decide(facts, rounds).submit == ("a",)

    def test_amnesty_lets_it_go_on(self) -> None:
        """With the evidence left out, a run that was stuck is submitted again."""
        assert decide(tars("abc"), []).submit == ("a", "b", "c")


class TestSeveralClipsInHand:
    """A death that could be the fault of any of them."""

    def died(self, name: str, node: str = "n1", gained: int = 0) -> NodeTry:
        return at(name, "died", node, several=True, gained=gained)

    def test_nobody_is_blamed(self) -> None:
        """However often it happens, neither tar nor clip counts; the next try takes the clips one at a time."""
        tried = [[self.died("a", f"n{number}"), good("b", f"n{number}")] for number in range(TAR_TRIES + CLIP_DEATHS)]
        decision = decide(tars("ac"), history(*tried))
        assert (decision.submit, decision.one_at_a_time) == (("a", "c"), ("a",))
        assert (decision.quarantine, decision.crash_clips) == ({}, {})

    def test_the_clip_that_is_found_afterwards(self) -> None:
        """Its own deaths make it a record; that before, with others in hand, is none of them."""
        found = (
            [self.died("a")],
            *[[killed("a", node=f"n{number}", gained=7 * (number == 0))] for number in range(CLIP_DEATHS)],
        )
        assert decide(tars("a"), history(*found[:-1])).crash_clips == {}
        assert decide(tars("a"), history(*found)).crash_clips == {"a": (7,)}

    def test_a_node_is_not_broken_by_a_tar_that_dies_elsewhere_too(self) -> None:
        """Whether with several clips in hand or with one."""
        tried = [
            [self.died("a", "n1"), self.died("c", "n1"), good("b", "n2")],
            [killed("a", node="n2"), killed("c", node="n2")],
        ]
        assert decide(tars("acd"), history(*tried)).exclude == {}
        assert set(decide(tars("acd"), history(tried[0])).exclude) == {"n1"}

    def test_tars_that_die_all_over_are_searched_before_the_loop_stops(self) -> None:
        """Three tars whose workers died with several clips in hand may have three bad clips; many speak for the machine."""
        assert decide(tars("abc"), history([self.died(name) for name in "abc"])).one_at_a_time == ("a", "b", "c")
        many = "abcdefghij"
        assert len(many) == HOLD_TARS
        assert decide(tars(many), history([self.died(name) for name in many])).outcome == "stuck"

    def test_it_changes_something_once(self) -> None:
        """A round that finds out nothing but this brings the search; further ones like it bring nothing."""
        rounds = [[self.died("a")] for _ in range(IDLE_ROUNDS + 1)]
        assert decide(tars("a"), history(*rounds[:-1])).submit == ("a",)
        assert decide(tars("a"), history(*rounds)).outcome == "stuck"
