"""jobs/progress.py: counts in a file, on a line and on a bar."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import msgspec
import pytest

from jobs.progress import (
    PATIENCE_SECONDS,
    DeviceSeconds,
    Kept,
    Pace,
    Progress,
    ProgressFile,
    Try,
    describe_device,
    read_progress,
    write_progress,
)


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log."""
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.DEBUG, "tar2tokens")
    return caplog


@pytest.mark.parametrize(
    ("spent", "gpu", "words"),
    [
        (DeviceSeconds(), True, ""),
        (DeviceSeconds(96.1, 2.9, 1.0), True, "busy 96 %, waiting for audio 3 %, for the writer 1 %"),
        (
            DeviceSeconds(940, 50, 10),
            True,
            "busy 94 %, waiting for audio 5 %, for the writer 1 %: more CPU cores would help (--cpus-per-gpu)",
        ),
        (DeviceSeconds(940, 50, 10), False, "busy 94 %, waiting for audio 5 %, for the writer 1 %"),
        (DeviceSeconds(0, 0, 0.5), True, "busy 0 %, waiting for audio 0 %, for the writer 100 %"),
    ],
)
def test_what_the_device_waited_for(spent: DeviceSeconds, gpu: bool, words: str) -> None:
    """Shares of its time; advice only for a GPU that waits for audio, and no word before there is a second to tell of."""
    assert describe_device(spent, gpu=gpu) == words


def test_device_seconds_add_up() -> None:
    """Those of several workers are a sum, and what is new since a moment a difference."""
    one, two = DeviceSeconds(1.0, 2.0, 3.0), DeviceSeconds(10.0, 20.0, 30.0)
    assert sum([one, two], DeviceSeconds()) == DeviceSeconds(11.0, 22.0, 33.0)
    assert two - one == DeviceSeconds(9.0, 18.0, 27.0)
    assert one.total == 6.0
    assert DeviceSeconds(1 / 3, 2e-7, 0.0).rounded() == DeviceSeconds(0.333333, 0.0, 0.0)


def test_pace_does_not_count_what_an_earlier_attempt_did() -> None:
    """The rate begins where this attempt began; a resumed tar does not look fast."""
    pace = Pace(1000, started=0.0)
    assert "ETA ?" in pace.words(Progress(), 1.0)
    assert "ETA ?" in pace.words(Progress(clips=1, bytes_done=900), 10.0)
    assert "ETA 0:00:20" in pace.words(Progress(clips=2, bytes_done=950), 20.0)


def test_file_is_written_twice_a_second_and_at_the_end(tmp_path: Path) -> None:
    """Many clips cost few writes; what is published last is in the file."""
    clock = Clock()
    reports = ProgressFile(tmp_path / "p.json", clock=clock)
    for step in (0.1, 0.5, 0.1, 0.1):
        clock.now += step
        reports.progress.clips += 1
        reports.publish()
    assert msgspec.json.decode((tmp_path / "p.json").read_bytes(), type=Progress).clips == 2
    reports.publish(now=True)
    assert msgspec.json.decode((tmp_path / "p.json").read_bytes(), type=Progress).clips == 4
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    """Counts are a courtesy: losing them is a debug line."""
    (tmp_path / "file").write_text("x")
    ProgressFile(tmp_path / "file" / "p.json").publish(now=True)
    assert [record.levelname for record in lines.records] == ["DEBUG"]


def test_a_last_report_waits_for_room(tmp_path: Path) -> None:
    """Without it nobody would know why the worker has ended; a stop and a minute end the waiting."""
    in_the_way, slept = tmp_path / "tasks", list[float]()
    in_the_way.write_text("x")
    now = [0.0]
    reports = ProgressFile(in_the_way / "p.json", clock=lambda: now[0])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        if len(slept) == 3:
            in_the_way.unlink()

    reports.publish_at_last(lambda: False, sleep)
    assert len(slept) == 3
    assert read_progress(in_the_way / "p.json") == Progress()
    never = ProgressFile(in_the_way / "p.json" / "q.json", clock=lambda: now[0])
    never.publish_at_last(lambda: True, sleep)
    assert len(slept) == 3
    never.publish_at_last(lambda: False, sleep)
    assert PATIENCE_SECONDS <= sum(slept) <= PATIENCE_SECONDS + 3


def test_report_round_trips(tmp_path: Path) -> None:
    """What a worker tells of its tries is what others read, in a folder that need not have been there."""
    told = Progress(
        clips=3,
        node="n1",
        gpu="GPU-a",
        started=1.5,
        device_seconds=DeviceSeconds(3.0, 0.5, 0.25),
        problems=[("b", "why")],
        tries=[
            Try("a", "died", gained=2, clip=2, problem="SIGSEGV", crash_clips=(0, 1)),
            Try("b", "failed", problem="why"),
            Try("c", "yielded", kept=Kept(7, 20, 500)),
        ],
    )
    write_progress(tmp_path / "tasks" / "00001.json", told)
    assert read_progress(tmp_path / "tasks" / "00001.json") == told
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["00001.json"]


def test_report_of_an_older_worker(tmp_path: Path) -> None:
    """It lacks what newer ones tell, and is read all the same."""
    (tmp_path / "p.json").write_bytes(b'{"clips": 3, "node": "n1", "tries": [{"name": "a", "outcome": "died", "clip": 3}]}')
    assert read_progress(tmp_path / "p.json") == Progress(clips=3, node="n1", tries=[Try("a", "died", clip=3)])


def test_a_try_comes_on_by_lines_or_within_a_long_clip() -> None:
    """Fragments that were there before are not its own."""
    assert not Try("a").came_on
    assert Try("a", gained=1).came_on
    assert Try("a", kept=Kept(7, 20, 21)).came_on
    assert Try("a", kept=Kept(7, 20, 21)).lengthened == 7
    assert not Try("a", kept=Kept(7, 20, 20)).came_on
    assert Try("a", gained=1, kept=Kept(7, 20, 20)).lengthened is None


@pytest.mark.parametrize("content", [None, b"", b'{"clips": 3', b"[]", b'{"tries": [{"name": "a", "outcome": "gone"}]}'])
def test_report_that_is_not_one(content: bytes | None, tmp_path: Path) -> None:
    """What is missing, torn or foreign tells nothing, and is no error."""
    if content is not None:
        (tmp_path / "p.json").write_bytes(content)
    assert read_progress(tmp_path / "p.json") is None


def test_a_worker_that_goes_on_after_another_goes_on_counting(tmp_path: Path) -> None:
    """A second life of a task adds to the report of the first."""
    path = tmp_path / "p.json"
    write_progress(path, Progress(clips=3, tries=[Try("a", "died")]))
    reports = ProgressFile(path, progress=read_progress(path))
    reports.progress.clips += 1
    reports.progress.tries.append(Try("b"))
    reports.publish(now=True)
    again = read_progress(path)
    assert again is not None
    assert (again.clips, [one.name for one in again.tries]) == (4, ["a", "b"])


def test_workers_share_no_tries() -> None:
    """Two reports in one process begin with lists of their own."""
    first, second = ProgressFile(None), ProgressFile(None)
    first.progress.tries.append(Try("a"))
    first.progress.problems.append(("a", "why"))
    assert (second.progress.tries, second.progress.problems) == ([], [])


def test_plain_lines(lines: pytest.LogCaptureFixture) -> None:
    """Without a terminal a line comes every half a minute, with audio-hours per hour and an ETA."""
    clock = Clock()
    reports = ProgressFile(None, total_bytes=1000, clock=clock)
    reports.progress.clips = 1
    reports.publish()
    assert not lines.records
    for used in (400, 600):
        clock.now += 31
        reports.progress.bytes_done = used
        reports.progress.audio_seconds += 62
        reports.publish()
        reports.publish()
    assert [record.getMessage() for record in lines.records] == [
        "1 clip, 0 errors, 0.02 audio-h at 2 audio-h/h, ETA ?",
        "1 clip, 0 errors, 0.03 audio-h at 2 audio-h/h, ETA 0:02:04",
    ]


def test_bar_on_a_terminal(
    lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a bar with rate and ETA stands for the lines."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Clock()
    reports = ProgressFile(None, total_bytes=2_000_000, clock=clock)
    with reports.on_terminal("000001"):
        reports.progress.clips = 7
        reports.progress.bytes_done = 500_000
        clock.now += 60
        reports.publish()
    bar = capsys.readouterr().err
    assert "000001:  25%" in bar
    assert "7 clips, 0 errors" in bar
    assert "ETA" in bar
    assert not lines.records


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a log file there is no bar."""
    reports = ProgressFile(None, total_bytes=10)
    with reports.on_terminal("x"):
        reports.publish(now=True)
    assert capsys.readouterr().err == ""
