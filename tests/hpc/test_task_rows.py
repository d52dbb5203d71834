"""hpc/task_rows.py: what each worker does, how fast it is, and since when it has made no progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.boards import round_of
from support.fake_cluster import Campaign

from hpc.stalls import Still
from hpc.task_rows import WINDOW_SECONDS, TaskFollower, TaskRow, sum_rows, urgent_first
from jobs.progress import DeviceSeconds, Ending, Progress, Try, write_progress

NOW = 1e9


def report(audio_seconds: float = 0.0, outcome: Ending = "working", **more: object) -> Progress:
    """A worker with a tar in hand."""
    return Progress(**{"audio_seconds": audio_seconds, "tries": [Try("000001", outcome)], "node": "n1", **more})  # type: ignore[arg-type]


def test_workers_that_run() -> None:
    """Neither those that have ended, nor those whose old report is there while their task is pending again."""
    seen = round_of(report(), report(finished=True), report(), at_work=frozenset({(1, 0), (1, 1)}))
    assert [row.task for row in TaskFollower().look(seen, NOW)] == ["0001/0"]


def test_tars_in_hand() -> None:
    """The name, how many more, and the share of their bytes; none where a size is unknown or no tar is in hand."""
    both = [Try("a", "committed"), Try("b", "working"), Try("c", "working")]
    seen = round_of(
        report(tries=both, tar_bytes=30), report(tar_bytes=7), report(tries=both[:1]), tar_bytes={"b": 80, "c": 20}
    )
    rows = TaskFollower().look(seen, NOW)
    assert [(row.tar, row.share) for row in rows] == [("b +1", 0.3), ("000001", None), ("", None)]


def test_loading() -> None:
    """A worker without a try, or with one that has not begun to read its tar, loads its backend."""
    seen = round_of(report(tries=[]), report(outcome="loading"), report(), report(outcome="committed"))
    assert [row.loading for row in TaskFollower().look(seen, NOW)] == [True, True, False, False]


def test_speed_is_that_of_the_last_minutes() -> None:
    """At first that of the worker's life, or none; what it did long ago counts no more."""
    follower = TaskFollower()
    (begun, unknown) = follower.look(round_of(report(500.0, started=NOW - 100), report(500.0)), NOW)
    assert (begun.speed, unknown.speed) == (5.0, None)
    speeds = []
    for minute in range(1, 4):
        moment = NOW + minute * WINDOW_SECONDS
        rows = follower.look(round_of(report(500.0, started=NOW - 100), report(500.0 + minute * WINDOW_SECONDS)), moment)
        speeds.append((rows[0].speed, rows[1].speed))
    assert [second for _, second in speeds] == [1.0, 1.0, 1.0]
    assert speeds[-1][0] == 0.0


def test_a_report_that_begins_anew() -> None:
    """Where a report was lost and another one begins with nothing, no speed is negative."""
    follower = TaskFollower()
    follower.look(round_of(report(500.0)), NOW)
    (row,) = follower.look(round_of(report(5.0)), NOW + 10)
    assert row.speed is None


def test_what_the_device_waited_for() -> None:
    """Of the same time as the speed."""
    follower = TaskFollower()
    (row,) = follower.look(round_of(report(device_seconds=DeviceSeconds(90.0, 10.0, 0.0), started=NOW - 100)), NOW)
    assert row.device == DeviceSeconds(90.0, 10.0, 0.0)
    for minute in (1, 2):
        spent = DeviceSeconds(90.0, 10.0 + 60 * minute, 0.0)
        (row,) = follower.look(round_of(report(device_seconds=spent)), NOW + minute * WINDOW_SECONDS)
    assert row.device == DeviceSeconds(0.0, 60.0, 0.0)


@pytest.mark.parametrize(
    "changed",
    [{"clips": 1}, {"audio_seconds": 1.0}, {"bytes_done": 1}, {"tries": [Try("000001", "committed")]}],
)
def test_time_since_progress(changed: dict[str, object]) -> None:
    """It counts from the last round in which a report had changed; until then from the first look."""
    follower = TaskFollower()
    moments = []
    for seconds, more in ((0, {}), (30, {}), (60, changed), (90, changed)):
        (row,) = follower.look(round_of(report(**more)), NOW + seconds)  # type: ignore[arg-type]
        moments.append(row.progressed - NOW)
    assert moments == [0, 0, 60, 60]


def test_rounds_that_are_far_apart() -> None:
    """Who made progress between two rounds is not stale, however long ago the last round was."""
    follower = TaskFollower()
    rows = [follower.look(round_of(report(clips), report(7.0)), NOW + 600 * clips) for clips in (1, 2)]
    assert [[row.stale for row in each] for each in rows] == [[False, False], [False, True]]


def test_a_stall_that_is_older_than_the_watch() -> None:
    """The witness knows since when, and at which step."""
    still = Still("0001/1", "n1", "decoding clip 7 of 000012", NOW - 700)
    well, stuck = TaskFollower().look(round_of(report(), report(), stalls=(still,)), NOW)
    assert (well.stale, stuck.stale) == (False, True)
    assert (stuck.progressed, stuck.stuck) == (NOW - 700, "decoding clip 7 of 000012")


def test_urgent_first() -> None:
    """The stalest, then the slowest; workers of about the same speed stay in their order."""
    speeds = {"a": 300.0, "b": 310.0, "c": 305.0, "slow": 100.0, "none": None}
    rows = [TaskRow(task=task, speed=speed, progressed=NOW, looked=NOW) for task, speed in speeds.items()]
    rows += [TaskRow(task=f"stale {age}", speed=500.0, progressed=NOW - age, looked=NOW) for age in (150, 700)]
    order = ["stale 700", "stale 150", "none", "slow", "a", "b", "c"]
    assert [row.task for row in urgent_first(rows)] == order


def test_several_as_one() -> None:
    """Sums, and the time of the one that waits longest."""
    rows = [
        TaskRow(task="a", clips=3, speed=2.0, progressed=NOW - 5, device=DeviceSeconds(1.0)),
        TaskRow(task="b", clips=4, progressed=NOW, device=DeviceSeconds(2.0)),
    ]
    whole = sum_rows(rows)
    assert (whole.clips, whole.speed, whole.progressed, whole.device) == (7, 2.0, NOW - 5, DeviceSeconds(3.0))


def test_rows_of_a_real_round(tmp_path: Path) -> None:
    """The controller says which workers run, how large tars are, and, while squeue fails, what may run."""
    campaign = Campaign(tmp_path, 3)
    controller = campaign.controller()
    controller.round()
    (job,) = campaign.cluster.living()
    for element in range(2):
        write_progress(job.submission.report_file(element), report(tries=[Try(str(element), "working")], tar_bytes=600))
    campaign.cluster.begin(job, 0)
    size = campaign.tars[0].stat().st_size
    rows = TaskFollower().look(controller.round(), NOW)
    assert [(row.task, row.tar, row.share) for row in rows] == [("0001/0", "0", 600 / size)]
    campaign.cluster.blind = True
    campaign.clock.now += 1000
    assert [row.task for row in TaskFollower().look(controller.round(), NOW)] == ["0001/0", "0001/1"]
