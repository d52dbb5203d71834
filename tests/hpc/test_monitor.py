"""hpc/monitor.py: the live line, a clean stop, and one message for each thing that went wrong."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from support.small_run import mulaw_spec

from hpc import monitor
from hpc.cluster import Failure, progress_file
from hpc.monitor import Interruption, add_up, describe_problems, follow
from hpc.plan import make_plan
from jobs.outputs import TarTask
from jobs.reporting import Progress

PLAN = make_plan([TarTask("/d/1.tar", "1", 3_000_000), TarTask("/d/2.tar", "2", 1_000_000)], 2, mulaw_spec())


class FakeWorkers:
    """Workers that run for as many looks as given."""

    def __init__(self, looks: int, failures: list[Failure] | None = None) -> None:
        self.looks = looks
        self.asked = 0
        self._failures = failures or []
        self.on_look = lambda: None

    def running(self) -> int:
        self.on_look()
        self.looks -= 1
        return 2 if self.looks >= 0 else 0

    def ask_to_stop(self) -> None:
        self.asked += 1

    def stop_all(self) -> None:
        self.asked += 1

    def failures(self) -> list[Failure]:
        return self._failures


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "POLL_SECONDS", 0.001)


def publish(folder: Path, slot: int, progress: Progress) -> None:
    progress_file(folder, slot).write_bytes(msgspec.json.encode(progress))


def test_sum_over_workers() -> None:
    """Counts add up; the whole is finished when each part is."""
    parts = [
        Progress(clips=2, errors=1, audio_seconds=3.0, tars_done=1, bytes_done=10, problems=[("a", "x")], finished=True),
        Progress(clips=5, audio_seconds=4.5, bytes_done=7),
    ]
    expected = Progress(clips=7, errors=1, audio_seconds=7.5, tars_done=1, bytes_done=17, problems=[("a", "x")])
    assert add_up(parts) == expected


def test_all_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without problems the exit code is 0, the counts are the last ones published, and stderr stays empty."""
    workers = FakeWorkers(2)
    workers.on_look = lambda: [publish(tmp_path, slot, Progress(clips=4, tars_done=1)) for slot in (0, 1)]
    outcome = follow(workers, tmp_path, PLAN, Interruption())
    assert (outcome.exit_code, outcome.total.clips, outcome.total.tars_done) == (0, 8, 2)
    assert capsys.readouterr() == ("", "")


def test_plain_lines_have_rate_and_eta(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal a line now and then tells tars, clips, audio-hours per hour and when it will be done."""
    moments = iter(range(0, 1000, 60))
    monkeypatch.setattr(monitor.time, "monotonic", lambda: float(next(moments)))
    workers = FakeWorkers(3)
    states = iter(
        [Progress(clips=1, bytes_done=1_000_000)] + [Progress(clips=9, audio_seconds=7200, bytes_done=2_000_000)] * 5
    )
    workers.on_look = lambda: publish(tmp_path, 0, next(states))
    follow(workers, tmp_path, PLAN, Interruption())
    lines = capsys.readouterr().err.splitlines()
    assert "0/2 tars, 9 clips, 0 errors, 2.00 audio-h at" in lines[-1]
    assert "audio-h/h, ETA 0:" in lines[-1]


def test_terminal_shows_rate_and_eta_on_the_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the bar carries the same words."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    publish(tmp_path, 0, Progress(clips=9, audio_seconds=7200, bytes_done=2_000_000))
    follow(FakeWorkers(2), tmp_path, PLAN, Interruption())
    bar = capsys.readouterr().err
    assert "2.00M/4.00M" in bar
    assert "9 clips" in bar
    assert "audio-h/h, ETA" in bar


def test_one_problem_of_many_tars_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with every tar is told once, with a few of their names."""
    publish(tmp_path, 0, Progress(problems=[(str(number), "no weights") for number in range(9)] + [("x", "cut")]))
    publish(tmp_path, 1, Progress(problems=[("", "its spec is another")]))
    assert follow(FakeWorkers(0), tmp_path, PLAN, Interruption()).exit_code == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: 0, 1, 2, 3, 4 and 4 more: no weights",
        "error: x: cut",
        "error: its spec is another",
    ]
    assert describe_problems([]) == []


def test_dead_worker_is_told_with_the_end_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that died is an error with its log's path and last lines; a log that is not there is no second error."""
    log_file = tmp_path / "w.err"
    log_file.write_text("".join(f"line {number}\n" for number in range(9)))
    failures = [Failure(0, "was killed", log_file), Failure(1, "was killed", tmp_path / "none")]
    assert follow(FakeWorkers(0, failures), tmp_path, PLAN, Interruption()).exit_code == 1
    message = capsys.readouterr().err
    assert f"worker 0 was killed; its log is {log_file}; the end of it:\n  line 4" in message
    assert "line 3" not in message
    assert f"worker 1 was killed; its log is {tmp_path / 'none'} (empty)" in message


def test_full_disk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a worker can write neither its counts nor its log: then the disk itself is looked at."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    follow(FakeWorkers(0, [Failure(0, "was killed", tmp_path / "none")]), tmp_path, PLAN, Interruption())
    assert "is full: make room" in capsys.readouterr().err


class TestInterruption:
    def test_signals_are_remembered_and_handlers_given_back(self) -> None:
        """The first signal counts; outside the block everything is as before."""
        before = signal.getsignal(signal.SIGTERM)
        interruption = Interruption()
        with interruption.listening():
            assert not interruption()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption()
        assert interruption.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is before

    def test_workers_are_asked_until_they_have_ended(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """An interruption is told once, passed on as long as a worker runs, and is the exit code."""
        interruption = Interruption()
        interruption.signal = signal.SIGINT
        workers = FakeWorkers(3)
        assert follow(workers, tmp_path, PLAN, interruption).exit_code == 130
        assert workers.asked == 3
        assert capsys.readouterr().err.count("SIGINT: 2 workers finish the clip in hand") == 1

    def test_worker_that_had_not_begun_is_no_failure(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A signal kills a process that is still starting; only one that had begun has something to tell."""
        interruption = Interruption()
        interruption.signal = signal.SIGTERM
        publish(tmp_path, 1, Progress())
        failures = [Failure(slot, "was killed", tmp_path / f"{slot}.err") for slot in (0, 1)]
        assert follow(FakeWorkers(0, failures), tmp_path, PLAN, interruption).exit_code == 143
        message = capsys.readouterr().err
        assert "worker 1 was killed" in message
        assert "worker 0" not in message

    def test_lost_terminal_stops_the_workers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When progress can be shown no more, workers are not left behind."""
        workers = FakeWorkers(5)

        def gone() -> None:
            raise BrokenPipeError

        workers.on_look = gone
        with pytest.raises(BrokenPipeError):
            follow(workers, tmp_path, PLAN, Interruption())
        assert workers.asked == 1
