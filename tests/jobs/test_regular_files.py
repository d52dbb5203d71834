"""jobs/regular_files.py: what is no regular file gets its name, and is never opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from audio_tokenizers.errors import UsageError
from jobs.regular_files import kind_of, refuse_irregular


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of each kind."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "link to fifo").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket is short
        bound.bind("socket")
        os.chdir(before)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"), [("fifo", "a FIFO"), ("link to fifo", "a FIFO"), ("socket", "a socket"), (".", "a folder")]
)
def test_kinds_are_named(folder: Path, name: str, kind: str) -> None:
    """FIFOs, sockets and folders are named, through links too, and refused with what was expected."""
    assert kind_of(folder / name) == kind
    with pytest.raises(UsageError, match=f"expected a tar, found {kind}"):
        refuse_irregular(folder / name, "a tar")


def test_device() -> None:
    """A device is one."""
    assert kind_of("/dev/zero") == "a device"


def test_regular_files_pass(folder: Path) -> None:
    """A file is fine, and so is a link to one; what is not there is no kind at all."""
    for name in ("file", "link"):
        assert kind_of(folder / name) is None
        refuse_irregular(folder / name, "a tar")
    with pytest.raises(FileNotFoundError):
        kind_of(folder / "nothing")
