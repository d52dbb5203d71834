"""hpc/outside_kills.py: a few kills are forgotten; whoever kills worker after worker is named, and it comes to an end."""

from __future__ import annotations

from hpc.outside_kills import KILLS_REPORTED, OutsideKills, count_kills
from jobs.progress import Kept, Try

WORDS = "killed by signal 9 without a memory event: someone or something on n1 kills it"


def killed(name: str = "a", gained: int = 0) -> Try:
    return Try(name, "killed", gained=gained, problem=WORDS)


def counted(*tries: tuple[str, Try]) -> OutsideKills:
    return count_kills(tries, lambda attempt: attempt.gained > 0)


def test_few_are_nobodys_business() -> None:
    """A person who ends a worker by hand, even twice at one clip, changes nothing."""
    kills = counted(*[("n1", killed())] * (KILLS_REPORTED - 1))
    assert (kills.of("a"), kills.diagnosis(0), kills.shunned({"n2"})) == ("", "", {})


def test_many_are_told() -> None:
    """The tar, the run and the node each say by what, how often and where."""
    kills = counted(*[("n1", killed())] * KILLS_REPORTED)
    assert kills.of("a") == f"{WORDS} ({KILLS_REPORTED} times)"
    assert kills.diagnosis(0) == (
        f"workers were killed {KILLS_REPORTED} times on n1 without a memory event: someone or something there kills them"
    )
    assert set(kills.shunned({"n2"})) == {"n1"}


def test_kills_on_the_way_through_a_long_clip_are_forgotten() -> None:
    """Each of them came further."""
    kills = counted(*[("n1", Try("a", "killed", kept=Kept(3, n, n + 1))) for n in range(2 * KILLS_REPORTED)])
    assert (kills.of("a"), kills.diagnosis(0)) == ("", "")


def test_a_node_is_shunned_only_if_others_work() -> None:
    """Where there is no other there is nothing to gain."""
    kills = counted(*[("n1", killed())] * KILLS_REPORTED)
    assert kills.shunned({"n1"}) == {}


def test_a_line_begins_the_count_again() -> None:
    """A worker that gained one before it was killed has done something, and so have those after it."""
    before = [("n1", killed())] * (KILLS_REPORTED - 1)
    kills = counted(*before, ("n1", killed(gained=1)), *before)
    assert (kills.of("a"), kills.diagnosis(0), kills.shunned({"n2"})) == ("", "", {})
    kills = counted(*before, ("n1", Try("b", "committed")), *before)
    assert (kills.of("a") != "", kills.diagnosis(0), kills.shunned({"n2"})) == (True, "", {})


def test_spread_over_tars_and_nodes() -> None:
    """Where every worker is killed, each at another tar, it is the run that is told."""
    kills = counted(*[(f"n{number}", killed(str(number))) for number in range(KILLS_REPORTED)])
    assert kills.of("0") == ""
    assert "killed once on n0, once on n1" in kills.diagnosis(0)
    assert kills.diagnosis(KILLS_REPORTED + 1) == ""


def test_what_a_bad_node_did() -> None:
    """What happened on a node that is avoided counts against no tar."""
    kills = counted(*[("n1", killed())] * KILLS_REPORTED)
    kills.forgive({"n1"})
    assert (kills.of("a"), kills.diagnosis(0)) == ("", "")
