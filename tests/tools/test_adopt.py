"""tools/adopt.py: the command, from an old output to a run that other commands continue, check and hand on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.old_output import codec_lines, say, whole_tar, write_lines
from support.runs import call, tree, write_list
from support.training_campaign import tell_status

from jobs.tokenize_tar import tokenize_tar
from tools.adopt import adopt
from tools.check_progress import check_progress
from tools.export import export
from tools.merge import merge
from tools.show import show


@pytest.fixture
def old(here: Path) -> Path:
    """An old output of two tars: one whole, one partial that was cut; the list of the tars beside it."""
    tars = [whole_tar(here / "data" / f"{name}.tar", 3) for name in ("1", "2")]
    write_list(here / "tars.txt", tars)
    one, two = (codec_lines(tar, here / "reference") for tar in tars)
    write_lines(here / "old" / "1.jsonl", one)
    write_lines(here / "old" / "2.jsonl.partial", [*two[:2], say(two[2])[:40]])
    return here / "old"


def adopted(*more: object) -> int:
    return call(adopt, "old", "--list", "tars.txt", "--backend", "mulaw", "--workers", 1, *more)


@pytest.mark.slow
def test_from_the_old_output_to_a_finished_run(old: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Adopted, continued by the normal command, valid in every line, and marked wherever it is shown or handed on."""
    before = tree(old)
    assert adopted("--dry-run") == 0
    assert capsys.readouterr().out.startswith("dry run: nothing is written\nold: 5 lines of tokenize_audio.py")
    assert not (here / "tokens").exists()

    assert adopted() == 0
    out = capsys.readouterr().out
    assert "Adopted:     5 clips (0.000 h) of 2 tars, 1 committed\nMade again:  1 clip, by the run\n" in out
    assert f"  1 without a line, such as 002.wav of {here}/data/2.tar: no line names it\n" in out
    assert "  old/2.jsonl.partial: line 3: not a JSON object" in out
    assert "\nnext: python -m hpc.submit --list tars.txt --backend mulaw --output-dir tokens" in out

    assert call(tokenize_tar, "--input-tar", "data/2.tar", "--backend", "mulaw") == 0
    assert call(check_progress, "--output-dir", "tokens", "--check-validity") == 0
    out = capsys.readouterr().out
    assert "Completed:             2 (100.0%)" in out
    assert "2 files valid in every line, 0 invalid" in out
    assert "5 clips with tokens made by another tool (tools.adopt), not by this recipe" in out
    lines = [json.loads(line) for line in (here / "tokens" / "2.jsonl").read_bytes().splitlines()]
    assert [line.get("notes") for line in lines] == [["adopted"], ["adopted"], None]

    assert call(show, "2", "--clip", "000.wav", "--output-dir", "tokens") == 0
    assert "made by another tool" in capsys.readouterr().out
    assert call(merge, "--output", "all.jsonl", "--shape", "higgs", "--workers", 1) == 0
    assert "Adopted:  5 clips with tokens made by another tool" in (out := capsys.readouterr().out)
    assert out.endswith("lines of --shape higgs do not say which\n")
    assert call(export, "--to", "npz", "--output", "npz", "--workers", 1) == 0
    assert "5 clips with tokens made by another tool" in capsys.readouterr().out
    assert tree(old) == before


def test_the_same_command_again(old: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It adopts nothing more, and says what is there."""
    assert adopted() == 0
    kept = (here / "tokens" / "2.jsonl.partial").read_bytes()
    capsys.readouterr()
    assert adopted() == 0
    out = capsys.readouterr().out
    assert "Adopted:     0 clips" in out
    assert "There:       2 clips with a line in the run before\nLeft alone:  1 tar committed before\n" in out
    assert (here / "tokens" / "2.jsonl.partial").read_bytes() == kept


def test_another_recipe_is_refused(old: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that has its own tokens alone, and options that its adopted lines were not checked with."""
    assert call(tokenize_tar, "--input-tar", "data/1.tar", "--backend", "mulaw", "--output-dir", "own") == 0
    before = tree(here / "own")
    assert adopted("--output-dir", "own") == 2
    assert "own holds tokens of its own recipe alone" in capsys.readouterr().err
    assert tree(here / "own") == before
    assert adopted() == 0
    assert call(tokenize_tar, "--input-tar", "data/2.tar", "--backend", "mulaw", "--max-duration", 5) == 2
    assert "tokens of another recipe" in capsys.readouterr().err


def test_bad_input(old: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One message each, and nothing written."""
    (here / "empty").mkdir()
    for folder, more, words in (
        ("nothing", [], "nothing: there is no such file or folder"),
        ("empty", [], "empty: expected files of an older tool, found none"),
        ("old", ["--output-dir", "old"], "expected a folder outside the old output"),
        ("old", ["--list", "gone.txt"], "--list gone.txt: there is no such file"),
        ("old", ["--segments"], "make several clips of a member"),
    ):
        assert call(adopt, folder, "--list", "tars.txt", "--backend", "mulaw", "--workers", 1, *more) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("error: ") == 1
    assert not (here / "tokens").exists()
    tell_status(here / "trained", step=4, saved=4)
    before = tree(here / "trained")
    assert adopted("--output-dir", "trained") == 2
    assert "trained: it holds a training: give another folder for tokens" in capsys.readouterr().err
    assert tree(here / "trained") == before


def test_a_tar_in_trouble_is_told_by_the_exit_code(old: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are adopted, and what stands before the damage."""
    tar = here / "data" / "2.tar"
    tar.write_bytes(tar.read_bytes()[:2600])
    assert adopted() == 1
    out = capsys.readouterr().out
    assert "Adopted:     4 clips (0.000 h) of 2 tars, 1 committed\n" in out
    assert "Problems:    1 tar, left to the run\n" in out
