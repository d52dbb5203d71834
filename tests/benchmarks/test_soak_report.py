"""benchmarks/soak_report.py: what counts as lost, against which fault, and as a person's work."""

from __future__ import annotations

import msgspec

from benchmarks.soak_plan import DISK_FULL
from benchmarks.soak_report import Ended, Result, Row, Tried, as_text, bytes_lost, rows_of, table, to_blame

WELL = Ended(lost={}, verdicts={"07": "cut"}, wrong_verdicts={}, time_limits=2, exit_code=3)
TRIED = [
    Tried(at_s=1.0, kind="a", what="n1", tars=("01", "02")),
    Tried(at_s=2.0, kind="a", what="n2", tars=("03",)),
    Tried(at_s=3.0, kind="b", what="n3", tars=("02",)),
]


def result(tried: list[Tried], ended: Ended) -> Result:
    """A soak that ended so."""
    return Result(
        seed=1, seconds=60.0, finished_s=70.0, tars=9, clips=90, submissions=3, rounds={"75": 3}, tried=tried, ended=ended,
        words=[], rows=rows_of(["a", "b", "c"], tried, ended),
    )  # fmt: skip


def test_bytes_that_are_lost() -> None:
    """Missing files, cut ones, other bytes, and files that should not be; what is equal is not named."""
    reference = {"a": b"12345", "b": b"12345", "c": b"12345", "d": b"12345"}
    found = {"a": b"12345", "b": b"123", "c": b"1x3y5", "e": b"12"}
    assert bytes_lost(reference, found) == {"b": 2, "c": 2, "d": 5, "e": 2}


def test_all_survived() -> None:
    """Each kind has a row, those that were not tried too, and nothing is lost."""
    well = result(TRIED, WELL)
    assert well.well
    assert well.rows == [
        Row("a", 2, 2, 0, 0),
        Row("b", 1, 1, 0, 0),
        Row("c", 0, 0, 0, 0),
        Row("a time limit is reached", 2, 2, 0, 0),
        Row("all", 5, 5, 0, 0),
    ]
    assert "| c | 0 | not tried | 0 | 0 |" in table(well.rows)


def test_a_loss_counts_against_every_fault_that_had_the_tar_in_hand() -> None:
    """Which of them it was nobody knows; in the sum it counts once."""
    bad = result(TRIED, msgspec.structs.replace(WELL, lost={"02": 7}))
    assert not bad.well
    assert bad.rows[:2] == [Row("a", 2, 1, 7, 0), Row("b", 1, 0, 7, 0)]
    assert bad.rows[-1].bytes_lost == 7
    assert "02: 7 bytes differ from the undisturbed run" in as_text(bad)


def test_a_loss_that_nobody_had_in_hand_is_not_hidden() -> None:
    """It is in the sum, and the soak has not gone well."""
    bad = result(TRIED, msgspec.structs.replace(WELL, lost={"09": 3}))
    assert [row.bytes_lost for row in bad.rows] == [0, 0, 0, 0, 3]
    assert not bad.well


def test_a_person() -> None:
    """Counts against the fault before it, and the words say when and why."""
    tried = [TRIED[0], msgspec.structs.replace(TRIED[1], person="exit code 4: stuck"), TRIED[2]]
    bad = result(tried, WELL)
    assert (bad.rows[0], bad.rows[-1].person, bad.well) == (Row("a", 2, 1, 0, 1), 1, False)
    assert "manual action needed at 2 s, after: a (n2): exit code 4: stuck" in as_text(bad)


def test_who_is_to_blame() -> None:
    """The last fault whose words a round repeats, or else simply the last one."""
    kinds = [DISK_FULL, "a task is cancelled", DISK_FULL, "slurmctld is away"]
    assert to_blame(kinds, "0102: [Errno 28] No space left on device") == 2
    assert to_blame(kinds, "stuck: 3 tasks ended") == 3
    assert to_blame(kinds[1:2], "No space left on device") == 0


def test_other_verdicts_and_other_ends_are_no_success() -> None:
    """A tar in quarantine that the undisturbed run commits, and a run that is not finished."""
    other = msgspec.structs.replace(WELL, wrong_verdicts={"05": "3 tries"})
    assert not result(TRIED, other).well
    assert "05: the verdict differs from the undisturbed run's: 3 tries" in as_text(result(TRIED, other))
    assert not result(TRIED, msgspec.structs.replace(WELL, exit_code=75)).well
