"""hpc/storage_waits.py: who cannot write its results waits, for longer each time, and no longer than need be."""

from __future__ import annotations

from typing import Any

from hpc.storage_waits import STORAGE_ROUNDS, StorageWaits, pause_s
from jobs.progress import Try

FULL = Try("a", "machine", problem="a: x: No space left on device", storage="full")
AWAY = Try("a", "machine", problem="a: x: Stale file handle", storage="away")


def waits(*rounds: list[Try], age_s: float = 0.0, **settings: Any) -> StorageWaits:
    """After rounds of one submission each, the last of them so old."""
    found = StorageWaits("out")
    for number, tries in enumerate(rounds, 1):
        found.add(tries, **{"wordless": 0, "round_": number, "age_s": age_s, "went_well": False, **settings})
    return found


def test_pauses_grow_to_ten_minutes() -> None:
    """From half a minute: a disk that is full for a moment costs little, and one that stays full gets few tasks."""
    assert [pause_s(times) for times in range(8)] == [0, 30, 60, 120, 240, 480, 600, 600]


def test_all_tars_wait_and_then_none() -> None:
    """For the pause, counted from the last submission; tars that nobody has tried wait too, since they share the storage."""
    assert waits([FULL], age_s=29).holds("b")
    assert not waits([FULL], age_s=30).holds("a")
    assert waits([FULL], [FULL], age_s=59).holds("b")
    assert not waits().holds("a")


def test_submissions_of_one_round_count_once() -> None:
    """A round of many arrays is one."""
    assert not waits([FULL], [FULL], [FULL], age_s=30, round_=1).holds("b")


def test_what_could_be_written_ends_it() -> None:
    """One line, of whatever tar, shows that there is room."""
    assert not waits([FULL], [Try("b", "yielded", gained=1), FULL]).holds("b")
    assert not waits([FULL], [FULL], [Try("a", "committed")], went_well=True).holds("a")


def test_a_tar_that_alone_cannot_be_written_waits_alone() -> None:
    """Such as one in a folder of its own, on another file system; the others go on."""
    found = waits([Try("b", "yielded", gained=1), FULL], age_s=29)
    assert (found.holds("a"), found.holds("b")) == (True, False)
    assert found.diagnosis(["a", "b"]) == ""
    assert found.diagnosis(["a"]).startswith("1 tar cannot be written to out")
    assert not waits([Try("b", "yielded", gained=1), FULL], [Try("a", "yielded", gained=1)], age_s=0).holds("a")


def test_a_tar_that_shared_the_trouble_of_all_waits_no_longer_than_they() -> None:
    """Nor one that several tasks of a round have tried."""
    assert not waits([FULL], [FULL], [FULL], [Try("b", "yielded", gained=1)]).holds("a")
    assert not waits([Try("b", "yielded", gained=1), FULL, FULL, FULL], age_s=30).holds("a")


def test_words() -> None:
    """They say what is the matter, where, and what to do; and that nobody has to."""
    assert waits([FULL]).diagnosis(["a"]) == (
        "no room on out: make room and run hpc.resume again; later rounds of hpc.resume try again by themselves"
    )
    assert "out cannot be written to (a: x: Stale file handle)" in waits([AWAY]).diagnosis(["a"])
    assert "3 tasks exited without a line in the log" in waits([], wordless=3).diagnosis(["a"])
    assert waits([FULL], age_s=30).diagnosis(["a"]) == waits([FULL]).diagnosis([]) == ""


def test_a_person_is_told_when_it_lasts() -> None:
    """After so many rounds, or so many tries of the tars that are left."""
    assert not waits(*[[FULL]] * (STORAGE_ROUNDS - 1)).last(["a"])
    assert waits(*[[FULL]] * STORAGE_ROUNDS).last(["b"])
    beside = [Try("b", "yielded", gained=1), FULL]
    assert waits(*[beside] * STORAGE_ROUNDS).last(["a"])
    assert not waits(*[beside] * STORAGE_ROUNDS).last(["a", "b"])


def test_other_trouble_is_none_of_its_business() -> None:
    """A submission that says nothing of storage is not counted, and ends nothing."""
    found = StorageWaits("out")
    common: dict[str, Any] = {"age_s": 0.0, "went_well": False}
    assert found.add([FULL], 0, round_=1, **common)
    assert not found.add([Try("a", "machine"), Try("b", "loading")], 0, round_=2, **common)
    assert found.holds("c")
