"""hpc/task_id.py: the one place that reads the name of a task, whoever has written it."""

from __future__ import annotations

import pytest

from hpc.task_id import TaskId, parse_task_command, parse_task_line


def test_round_trip() -> None:
    """What claims say is read back; submissions have four digits, or more where they need them."""
    for task, text in ((TaskId(3, 12), "0003/12"), (TaskId(12345, 0), "12345/0")):
        assert str(task) == text
        assert TaskId.parse(text) == task


@pytest.mark.parametrize(
    "text",
    ["", "/", "3", "3/", "/12", "a/b", "3/12/1", "-3/12", "3/-1", " 3/12", "3/12\n", "²/1", "1/٣", "0003/" + "9" * 5000],
)
def test_what_is_no_task(text: str) -> None:
    """Any other text is no task, and no error: digits that int() refuses are among them."""
    assert TaskId.parse(text) is None


PYTHON = ["/usr/bin/python3", "-u", "-m", "hpc.task"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([*PYTHON, "/run/plan.json", "--elements", "4", "--element", "3", "--gpu", "none", ""], ("/run/plan.json", 3)),
        ([*PYTHON, "/run/plan.json", "--elements", "4", ""], None),
        ([*PYTHON, "/run/plan.json", "--element", "x"], None),
        ([*PYTHON, "/run/plan.json", "--element", "²"], None),
        ([*PYTHON, "/run/plan.json", "--element", "9" * 5000], None),
        ([*PYTHON, "/run/plan.json", "--element"], None),
        (["--element", *PYTHON], None),
        (PYTHON, None),
        (["vim", "a", "b", "c", "d", "e", "f", "g", "hpc.task", "--element", "1"], None),
        ([""], None),
    ],
)
def test_command_lines(words: list[str], found: tuple[str, int] | None) -> None:
    """A task of this machine is known by its command line; no other program's is an error, whatever it looks like."""
    assert parse_task_command(words) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "/a b/python -u /c/run_module.py hpc.task /d e/plan.json --elements 4 --element 3 --gpu mps",
            ("/d e/plan.json", 3),
        ),
        ("python run_module.py hpc.task /d/plan.json --elements 4 --umask 22 --element 0", ("/d/plan.json", 0)),
        ("python run_module.py hpc.task /d/plan.json --elements 4", None),
        ("vim hpc.task", None),
        ("", None),
    ],
)
def test_command_lines_of_ps(line: str, found: tuple[str, int] | None) -> None:
    """There, nothing stands between words but spaces, which paths have too."""
    assert parse_task_line(line) == found
