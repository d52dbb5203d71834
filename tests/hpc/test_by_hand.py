"""hpc/by_hand.py: after a loop of jobs.tokenize_tar every command takes the folder, or says what makes it a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import call, tree, write_list
from support.small_run import CLIPS, small_tar, stopping_after, tokenize

from hpc.by_hand import tars_by_hand
from hpc.cancel import cancel
from hpc.resume import resume
from hpc.run import Run
from hpc.submit import submit
from jobs.tokenize_tar import tokenize_tar
from tools.check_progress import check_progress
from tools.decode_check import decode_check
from tools.export import export
from tools.failures import failures
from tools.merge import merge
from tools.reader import read_run
from tools.show import show


@pytest.fixture
def folder(here: Path) -> Path:
    """Three tars, tokenized one by one: the last one is cut."""
    for name in ("2", "10", "1"):
        assert call(tokenize_tar, "--input-tar", small_tar(here / f"{name}.tar"), "--backend", "mulaw") == 0
    cut = small_tar(here / "3.tar")
    cut.write_bytes(cut.read_bytes()[:2000])
    assert call(tokenize_tar, "--input-tar", cut, "--backend", "mulaw") == 1
    return here / "tokens"


def listed(folder: Path) -> list[tuple[str, str]]:
    return [(Path(tar.tar).name, tar.name) for tar in Run(folder).listed()]


@pytest.mark.slow
def test_commands_that_look_take_it(folder: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress, validity, what failed, one tar's words."""
    assert call(check_progress, "--check-validity", "--verbose") == 0
    text = capsys.readouterr().out
    assert [line.split()[2] for line in text.splitlines() if line.startswith("[")] == ["1.tar", "2.tar", "3.tar", "10.tar"]
    assert "Completed:             3 (75.0%)" in text
    assert (here / "remaining_tar_files.txt").read_text() == f"{here}/3.tar\n"
    assert call(failures) == 1
    text = capsys.readouterr().out
    assert "1 tar: cut: the file ends at byte 2,000" in text
    assert "python -m hpc.submit --list failed_tars.txt --backend mulaw " in text
    assert call(show, "10") == 0
    assert call(decode_check) == 0


@pytest.mark.slow
def test_commands_that_use_the_tokens_take_it(folder: Path, here: Path) -> None:
    """All that is committed, in the order of the names, numbers by value."""
    assert call(merge, "--output", "all.jsonl", "--partial-ok") == 0
    lines = (here / "all.jsonl").read_text().splitlines()
    assert [line.partition(".tar")[0][-1] for line in lines] == ["1"] * CLIPS + ["2"] * CLIPS + ["0"] * CLIPS
    assert call(export, "--to", "npz", "--output", "npz", "--partial-ok") == 0
    assert len(list(read_run(folder, partial_ok=True))) == 3 * (CLIPS - 1)


@pytest.mark.slow
@pytest.mark.parametrize("command", [resume, cancel])
def test_the_one_command_that_makes_it_a_run(
    folder: Path, here: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., int]
) -> None:
    """It is shown where tasks would be needed, works as it stands, and does no tar again."""
    assert call(command) == 2
    message = capsys.readouterr().err
    assert "4 tars of python -m jobs.tokenize_tar, and no run yet" in message
    words = shlex.split(message.splitlines()[-1])
    assert words[:3] == ["python", "-m", "hpc.submit"]
    before = {name: content for name, content in tree(folder).items() if str(name).endswith(".jsonl")}
    small_tar(here / "3.tar")
    assert call(submit, *words[3:], "--workers", "1", "--cluster", "local") == 0
    assert before.items() <= tree(folder).items()
    assert listed(folder) == [("1.tar", "1"), ("2.tar", "2"), ("3.tar", "3"), ("10.tar", "10")]
    assert call(resume) == 0
    assert call(check_progress) == 0
    assert "Completed:             4 (100.0%)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_list_comes_first_and_what_was_made_by_hand_stays(folder: Path, here: Path) -> None:
    """The person's list gives the order; other tars that were tokenized here stay in the run."""
    assert call(submit, "--list", write_list(here / "l.txt", [here / "10.tar", small_tar(here / "7.tar")]), "--backend",
                "mulaw", "--cluster", "local", "--workers", "1") in (0, 3)  # fmt: skip
    assert listed(folder) == [("10.tar", "10"), ("7.tar", "7"), ("1.tar", "1"), ("2.tar", "2"), ("3.tar", "3")]


def test_a_tar_that_has_moved_comes_by_its_new_path(folder: Path, here: Path) -> None:
    """It is there once, and is not made again."""
    (here / "new").mkdir()
    (here / "1.tar").rename(here / "new" / "1.tar")
    run = Run(folder)
    run.add_to_list([str(here / "new" / "1.tar")], keep_dirs=False)
    assert [tar.tar for tar in run.listed() if tar.name == "1"] == [str(here / "new" / "1.tar")]


def test_a_dry_run_makes_no_run_of_it(folder: Path) -> None:
    """Nor does a command that only looks."""
    before = tree(folder)
    assert call(submit, "--backend", "mulaw", "--cluster", "local", "--dry-run") == 0
    assert tree(folder) == before


def test_without_a_list_and_without_tars(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """hpc.submit says what it needs."""
    assert call(submit, "--backend", "mulaw") == 2
    assert "--list: expected a file with a tar per line" in capsys.readouterr().err


def test_a_manifest_that_is_none_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged manifest hides no tar."""
    tokenize(small_tar(here / "1.tar"), here / "tokens", **stopping_after(1))
    run = Run(here / "tokens")
    run.paths("1").attempt.write_text("{")
    assert tars_by_hand(run.folder) == {"1": "1"}
    assert call(check_progress) == 1
    assert "1.json: expected a manifest, found something else" in capsys.readouterr().out
    assert call(submit, "--backend", "mulaw", "--cluster", "local") == 2
    run.add_to_list([str(small_tar(here / "2.tar"))], keep_dirs=False)
    assert [tar.name for tar in run.listed()] == ["2"]
