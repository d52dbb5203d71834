"""hpc/stalls.py: people see since when a task has made no progress, as long as it lives and makes none."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from hpc.run import Run
from hpc.stalls import STALLS_SHOWN, Still, describe_stalls, read_stalls, stall_file, write_stall
from jobs.activities import Activity
from jobs.watchdog import Stall

NOON = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
STALL = Stall(Activity(0, 1, 600.0, "decode", "000012", 7), 300.0)


def test_told_and_taken_back(tmp_path: Path) -> None:
    """What a witness tells of a living task is found, with the time of the node's clock; then it is gone."""
    submission = Run(tmp_path).new_submission()
    path = stall_file(submission, 3)
    write_stall(path, "0001/3", "n2", STALL, NOON)
    found = read_stalls([(submission, [2, 3])])
    assert found == (Still("0001/3", "n2", "decoding clip 7 of 000012", NOON - 300.0),)
    assert read_stalls([(submission, [2])]) == ()  # a task that has died takes nothing back
    write_stall(path, "0001/3", "n2", None, NOON)
    assert read_stalls([(submission, [3])]) == ()
    assert list(path.parent.iterdir()) == []


def test_longest_first(tmp_path: Path) -> None:
    """Over all submissions."""
    first, second = (Run(tmp_path).new_submission() for _ in range(2))
    write_stall(stall_file(first, 0), "0001/0", "n1", STALL, NOON)
    write_stall(stall_file(second, 0), "0002/0", "n2", STALL, NOON - 60)
    assert [still.task for still in read_stalls([(first, [0]), (second, [0])])] == ["0002/0", "0001/0"]


def test_nothing_there(tmp_path: Path) -> None:
    """A folder that cannot be written or read costs the news, and half a file is none."""
    submission = Run(tmp_path).new_submission()
    assert read_stalls([(submission, [0])]) == ()
    (submission.folder / "stalls").write_text("in the way")
    write_stall(stall_file(submission, 0), "0001/0", "n1", STALL, NOON)
    assert read_stalls([(submission, [0])]) == ()
    other = Run(tmp_path).new_submission()
    stall_file(other, 0).parent.mkdir()
    stall_file(other, 0).write_text('{"task":')
    assert read_stalls([(other, [0])]) == ()


def test_in_words() -> None:
    """The task, its node, since when, for how long and at what; of many only the first few."""
    still = Still("0001/3", "n2", "decoding clip 7 of 000012", NOON)
    words = "task 0001/3 on n2 has made no progress since 12:00:00 (0:12:40): decoding clip 7 of 000012"
    assert describe_stalls([still], now=NOON + 760) == [words]
    assert describe_stalls([still] * (STALLS_SHOWN + 2), now=NOON)[-1] == "2 more tasks"
    forged = msgspec.structs.replace(still, what="decoding clip 7 of a\nerror: b\x1b[2J")
    assert describe_stalls([forged], now=NOON)[0].endswith(r"decoding clip 7 of a\nerror: b\x1b[2J")
    assert "(0:00:00)" in describe_stalls([still], now=NOON - 5)[0]  # clocks of hosts differ
