"""tools/reporting/tasks.py: what a task's report says of its end."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.reported_runs import SimulatedRun

from jobs.progress import Ending, Progress, Try, read_progress, write_progress
from tools.reporting.facts import End
from tools.reporting.tasks import end_of, read_tasks


@pytest.mark.parametrize(
    ("outcome", "finished", "has_ended", "silence", "end"),
    [
        ("committed", True, True, 9e9, "finished"),
        ("committed", True, False, 1, "finished"),
        ("working", False, False, 1, "running"),
        ("working", False, False, 9e9, "silent"),
        ("working", False, True, 1, "stopped"),
        ("yielded", True, True, 1, "stopped"),
        ("died", False, True, 1, "died"),
        ("machine", True, True, 1, "died"),
        ("died", False, False, 1, "running"),  # its witness starts another worker
        ("committed", False, True, 1, "finished"),
    ],
)
def test_end_of(outcome: Ending, finished: bool, has_ended: bool, silence: float, end: End) -> None:
    """By its last try, and whether the submission has ended or the task still reports."""
    report = Progress(tries=[Try("a", outcome)], finished=finished)
    assert end_of(report, has_ended=has_ended, silence=silence) == end


def test_nothing_reported_yet() -> None:
    """A task without a try is at work while it is young."""
    assert end_of(Progress(), has_ended=False, silence=1) == "running"
    assert end_of(Progress(), has_ended=True, silence=1) == "stopped"


def test_read_tasks(tmp_path: Path) -> None:
    """Reports by slot, whose times of change are their ends; a submission that cannot be read is named, the others stay."""
    run = SimulatedRun(tmp_path / "tokens", 30, nodes=2, tars_per_task=3, trouble=0.0, lines=False).write()
    problems: list[str] = []
    submissions, tasks = read_tasks(run, 2e9, problems)
    assert (problems, len(submissions), len(tasks)) == ([], 1, 10)
    assert submissions[0].states == {"COMPLETED": 10}
    assert {task.end for task in tasks} == {"finished"}
    assert all(task.seconds > 20 and task.audio_seconds > 0 for task in tasks)
    skewed = run.submissions()[0].report_file(0)
    os.utime(skewed, (1, 1))
    (run.submissions_folder / "0002").mkdir()
    (run.submissions_folder / "0002" / "plan.json").write_text("{")
    submissions, tasks = read_tasks(run, 2e9, problems)
    assert [each.number for each in submissions] == [1]
    assert "0002" in problems[0]
    assert tasks[0].seconds == 0


@pytest.mark.parametrize("started", [1.0, 1e300])
def test_a_node_whose_clock_is_off_by_years(tmp_path: Path, started: float) -> None:
    """Its tasks begin neither before their submission nor in the future: axes and cost are of hours, not years."""
    run = SimulatedRun(tmp_path / "tokens", 6, nodes=2, trouble=0.0, lines=False).write()
    (submission,) = run.submissions()
    submission.digest_file.unlink()
    report = submission.report_file(0)
    ended = report.stat().st_mtime
    said = read_progress(report)
    assert said is not None
    write_progress(report, msgspec.structs.replace(said, started=started))
    os.utime(report, (ended, ended))
    submissions, (task, *_) = read_tasks(run, ended + 60, [])
    assert submissions[0].intended_at <= task.started <= task.ended <= ended + 60
