"""tools/common/whole_files.py: a large file appears whole or not at all, and what the dead have left is swept up."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.crashing import CrashingOps, SimulatedCrash

from tools.common import whole_files
from tools.common.whole_files import replacing, scratch_folder, sweep


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """Until the end of the block the old file stands; then the new one does, in a folder that is made for it."""
    path = tmp_path / "new folder" / "x"
    with replacing(path) as private:
        private.write_text("1")
        assert not path.exists()
    assert path.read_text() == "1"
    with suppress(FileNotFoundError), replacing(path) as private:
        private.write_text("2")
        (tmp_path / "nowhere").read_text()
    assert path.read_text() == "1"
    assert [file.name for file in path.parent.iterdir()] == ["x"]


def test_a_crash_at_every_step(tmp_path: Path) -> None:
    """Before and after each operation, `path` holds the old bytes or all of the new ones."""
    path = tmp_path / "x"
    for step in range(10):
        for after in (False, True):
            path.write_text("old")
            ops = CrashingOps(step, after=after)
            try:
                with replacing(path, ops) as private:
                    private.write_text("new")
            except SimulatedCrash:
                assert path.read_text() in ("old", "new")
            else:
                assert path.read_text() == "new"
                assert step >= ops.count
    assert step == 9


def test_litter_of_the_dead_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private files of processes of this machine that are gone are removed; those of the living, and of other machines
    for a day, are not; nor is any other file.
    """
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = whole_files._host()
    dead = tmp_path / f".x.tar.{host}.{gone.pid}.new"
    kept = [tmp_path / f".x.tar.{host}.{os.getppid()}.new", tmp_path / ".x.tar.elsewhere.1.new", tmp_path / ".mine.new"]
    for path in (dead, *kept):
        path.touch()
    sweep(tmp_path)
    assert not dead.exists()
    assert all(path.exists() for path in kept)
    monkeypatch.setattr(whole_files, "FORGOTTEN_SECONDS", -1.0)
    sweep(tmp_path)
    assert [path.exists() for path in kept] == [True, False, True]


def test_a_scratch_folder_leaves_nothing(tmp_path: Path) -> None:
    """It is empty at first and gone at the end, however that comes; a killed command's goes with the next one."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".scratch.{whole_files._host()}.{gone.pid}.new"
    left.mkdir()
    (left / "00000001").touch()
    with suppress(FileNotFoundError), scratch_folder(tmp_path) as scratch:
        assert list(tmp_path.iterdir()) == [scratch]
        assert list(scratch.iterdir()) == []
        (scratch / "x").touch()
        (tmp_path / "nowhere").read_text()
    assert list(tmp_path.iterdir()) == []
