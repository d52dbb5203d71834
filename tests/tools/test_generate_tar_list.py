"""tools/generate_tar_list.py: the tars of a folder, in an order that people expect."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.looked_at import folder_of_tars
from support.runs import call, tree

from hpc.tar_list import read_tar_list
from tools.common.tar_finding import find_tars
from tools.generate_tar_list import generate_tar_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tars with and without numbers, and what else lies beside them."""
    return folder_of_tars(tmp_path)


def test_list_is_what_submit_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list has absolute paths, whatever the folder was called, and reads back as the same tars."""
    monkeypatch.chdir(folder)
    arguments = ("--input-dir", "../my tars", "--output-file", "lists/l.txt")
    assert call(generate_tar_list, *arguments) == 0
    assert capsys.readouterr().out == "6 tars in lists/l.txt\n"
    assert read_tar_list(folder / "lists/l.txt") == [str(path) for path in find_tars(folder, None)]
    before = tree(folder)
    assert call(generate_tar_list, *arguments) == 0
    assert tree(folder) == before


def test_the_list_may_go_into_a_pipe_or_through_a_link(folder: Path, tmp_path: Path) -> None:
    """What is no file is written to and stays what it is, /dev/null of root's too; a link stays a link."""
    pipe, link = tmp_path / "pipe", tmp_path / "link.txt"
    os.mkfifo(pipe)
    link.symlink_to("real.txt")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert call(generate_tar_list, "--input-dir", folder, "--output-file", pipe) == 0
    reader.join()
    assert pipe.is_fifo()
    assert call(generate_tar_list, "--input-dir", folder, "--output-file", link) == 0
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == got[0]


def test_a_list_that_cannot_be_written_is_told_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not by that of the temporary file beside it."""
    assert call(generate_tar_list, "--input-dir", folder, "--output-file", "/proc/l.txt") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: /proc/l.txt: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input-dir", "none"], "there is no such folder"),
        (["--input-dir", ".", "--prefix", "nope"], ".tzst and --prefix nope\n"),
        (["--input-dir", ".", "--pattern", "*.x"], "no file matches *.x\n"),
        (["--input-dir", ".", "--pattern", "*.x", "--start", "3"], "no file matches *.x and --start 3\n"),
        (["--input-dir", ".", "--pattern", "/abs/*"], "expected a glob below the folder"),
        (["--input-dir", ".", "--pattern", ""], "expected a glob below the folder"),
        (["--input-dir", ".", "--start", "x"], "--start"),
        ([], "--input-dir"),
    ],
)
def test_bad_usage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """What cannot be meant exits 2 with one message, and an old list is left as it was."""
    monkeypatch.chdir(folder)
    (folder / "l.txt").write_text("old")
    assert call(generate_tar_list, *arguments, "--output-file", "l.txt") == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert (folder / "l.txt").read_text() == "old"


@pytest.mark.parametrize("name", [b"a\nb.tar", b"a\tb.tar", b"caf\xe9.tar", b"a.tar "])
def test_names_that_a_list_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes) -> None:
    """A name that would be read back as another one is refused while it can still be changed."""
    (tmp_path / os.fsdecode(name)).touch()
    output = tmp_path / "l.txt"
    assert call(generate_tar_list, "--input-dir", tmp_path, "--output-file", output, "--pattern", "*.tar*") == 2
    assert "rename it" in capsys.readouterr().err
    assert not output.exists()


def test_list_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is a folder is one message with its name, not a traceback."""
    (folder / "folder.tar").rmdir()
    assert call(generate_tar_list, "--input-dir", folder, "--output-file", folder) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "my tars" in message


def test_what_is_called_a_tar_and_is_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A FIFO and a link to nothing are left out without being opened, and a line for each says what it is."""
    os.mkfifo(folder / "pipe.tar")
    (folder / "gone.tar").symlink_to("nowhere")
    (folder / "linked.tar").symlink_to("10.tar")
    assert call(generate_tar_list, "--input-dir", folder, "--output-file", folder / "l.txt") == 0
    captured = capsys.readouterr()
    assert "pipe.tar is a FIFO" in captured.err
    assert "gone.tar is a link that leads nowhere" in captured.err
    assert "folder.tar is a folder" in captured.err
    assert captured.out.startswith("7 tars in")
