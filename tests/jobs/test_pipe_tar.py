"""jobs/pipe_tar.py: what a command writes, in full or with an error that is not the tar's."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from jobs.pipe_tar import PipeTar
from jobs.remote_tar import RemoteError


def read(command: str) -> bytes:
    with io.BufferedReader(PipeTar(f"pipe:{command}").open(), 1 << 20) as file:
        return file.read()


def test_output(tmp_path: Path) -> None:
    """Every byte, also through pipes of the shell, and nothing of what is said beside it."""
    data = os.urandom(3_000_000)
    (tmp_path / "a b").write_bytes(data)
    assert read(f"echo words >&2; cat '{tmp_path}/a b' | cat") == data
    assert read("true") == b""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("printf abc; echo no luck >&2; exit 3", "exit code 3 after 3 bytes: no luck"),
        ("printf abc; exit 22 | cat", "exit code 22"),
        ("printf abc; kill -9 $$", "signal 9"),
        ("no-such-program", "exit code 127"),
    ],
)
def test_command_that_fails(command: str, words: str) -> None:
    """What it has written is no tar, not even a cut one; its last words are told. It holds for each part of a pipe."""
    with pytest.raises(RemoteError, match=words):
        read(command)


def test_passing_over() -> None:
    """Forwards by reading, to the end at most; backwards is not possible."""
    with PipeTar("pipe:printf 0123456789").open() as file:
        assert file.seek(4) == 4
        assert file.read(3) == b"456"
        assert file.seek(1000) == 10
        with pytest.raises(io.UnsupportedOperation):
            file.seek(3)


def test_close_ends_what_runs(tmp_path: Path) -> None:
    """Whoever has read enough leaves nothing behind that still writes."""
    os.mkfifo(tmp_path / "held")
    file = PipeTar(f"pipe:exec 9>'{tmp_path}/held'; echo begun >&9; sleep 1000 | cat; echo").open()
    with (tmp_path / "held").open("rb", buffering=0) as held:
        assert held.read(6) == b"begun\n"
        file.close()
        assert held.read(1) == b""  # which comes when all that had it open are gone
    file.close()


def test_signs() -> None:
    """Each piece is one."""
    signs: list[None] = []
    with PipeTar("pipe:printf abc").open(lambda: signs.append(None)) as file:
        file.read(10)
    assert signs


def test_identity() -> None:
    """Two commands are two tars, whatever they write; of one command nobody knows more."""
    one, other = PipeTar("pipe:cat a.tar").facts(), PipeTar("pipe:cat b.tar").facts()
    assert one != other
    assert one == PipeTar("pipe:cat a.tar").facts()
    assert one.size == 0
