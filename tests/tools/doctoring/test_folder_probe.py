"""tools/doctoring/folder_probe.py: file systems that do not keep what they promise."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.fileops import FileOps
from tools.doctoring import folder_probe
from tools.doctoring.bounded import Answer
from tools.doctoring.folder_probe import Exclusive, Flush, Replacing, Room, Signs, file_system_of, main, probe
from tools.doctoring.judge import judge_exclusive, judge_fsync, judge_link, judge_rename, judge_signs


def facts(folder: Path, check: str, kind: type, ops: FileOps | None = None) -> Any:
    """What a check finds."""
    return msgspec.convert(msgspec.to_builtins(folder_probe.CHECKS[check](folder, ops or FileOps())), kind)


def test_a_good_file_system_passes_every_check(tmp_path: Path) -> None:
    """Such as the one of the tests: each check has an answer without an error, and its judge is content."""
    said: list[Answer] = []
    probe(tmp_path, FileOps(), said.append)
    assert [answer.check for answer in said] == list(folder_probe.CHECKS)
    assert not any(answer.error for answer in said)
    found = {answer.check: answer.facts for answer in said}
    assert judge_exclusive(msgspec.json.decode(found["exclusive create"], type=Exclusive)).verdict == "ok"
    assert judge_link(msgspec.json.decode(found["hard link"], type=Exclusive)).verdict == "ok"
    assert judge_rename(msgspec.json.decode(found["rename"], type=Replacing)).verdict == "ok"
    assert judge_signs(msgspec.json.decode(found["signs of life"], type=Signs)).verdict == "ok"
    assert msgspec.json.decode(found["room"], type=Room).free_bytes > 0
    assert msgspec.json.decode(found["fsync"], type=Flush).folder_error == ""


class Careless(FileOps):
    """O_EXCL is not heard, as on some file systems in user space."""

    def create(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)


def test_creation_that_is_not_exclusive_is_a_fault(tmp_path: Path) -> None:
    """Several win, and a file that exists is created again."""
    found = facts(tmp_path, "exclusive create", Exclusive, Careless())
    assert found.most_winners == folder_probe.WRITERS
    assert not found.refused
    assert judge_exclusive(found).verdict == "fault"


class Copies(FileOps):
    """A link is a copy that overwrites."""

    def link(self, source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())


def test_links_that_overwrite_are_a_fault(tmp_path: Path) -> None:
    """Two workers would own one tar."""
    found = facts(tmp_path, "hard link", Exclusive, Copies())
    assert judge_link(found).verdict == "fault"
    assert "own one tar" in judge_link(found).found


class TwoSteps(FileOps):
    """A rename removes the target first."""

    def rename(self, source: Path, target: Path) -> None:
        target.unlink(missing_ok=True)
        time.sleep(0.002)
        source.rename(target)


class Slowly(FileOps):
    """A rename writes into the target."""

    def rename(self, source: Path, target: Path) -> None:
        data = source.read_bytes()
        with target.open("r+b") if target.exists() else target.open("wb") as file:
            file.write(data[:100])
            file.flush()
            time.sleep(0.002)
            file.write(data[100:])
        source.unlink()


@pytest.mark.parametrize(("ops", "seen"), [(TwoSteps(), "missing"), (Slowly(), "torn")], ids=["two steps", "slowly"])
def test_a_rename_that_readers_see_in_between_is_a_fault(tmp_path: Path, ops: FileOps, seen: str) -> None:
    """The name is gone for a moment, or holds parts of two files."""
    found = facts(tmp_path, "rename", Replacing, ops)
    assert getattr(found, seen) > 0
    assert judge_rename(found).verdict == "fault"


class NoLinks(FileOps):
    def link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")


def test_a_check_that_is_refused_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    """A file system without hard links."""
    said: list[Answer] = []
    probe(tmp_path, NoLinks(), said.append)
    assert {answer.check: answer.error for answer in said if answer.error} == {"hard link": "Operation not permitted"}
    assert len(said) == len(folder_probe.CHECKS)


def test_slow_flushes_are_a_warning(tmp_path: Path) -> None:
    """And folders that cannot be flushed are none: network file systems refuse it."""

    class NoFolders(FileOps):
        def fsync(self, fd: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
                raise OSError(errno.EINVAL, "Invalid argument")

    found = facts(tmp_path, "fsync", Flush, NoFolders())
    assert found.folder_error == "Invalid argument"
    assert judge_fsync(found).verdict == "ok"
    assert judge_fsync(Flush(3.0, "")).verdict == "warning"


def test_what_is_mounted_where() -> None:
    """The innermost mount counts, the last of several, and names may hold spaces."""
    mounts = "d / ext4 rw 0 0\ns:/x /home nfs4 rw 0 0\nl /home/my\\040data lustre rw 0 0\nt /home/a tmpfs rw 0 0\n"
    found = [file_system_of(Path(path), mounts) for path in ("/home/my data/tokens", "/home/b", "/homes", "/home/a")]
    assert found == ["lustre", "nfs4", "ext4", "tmpfs"]
    assert file_system_of(Path("/x"), "") == ""


def test_the_command_makes_the_folder_and_says_what_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First, so that whoever waits knows; where nothing can be made it says why."""
    assert main([str(tmp_path / "a" / "b" / "own")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert msgspec.json.decode(first)["facts"]["parents"] == [str(tmp_path / "a" / "b"), str(tmp_path / "a")]
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file" / "own")]) == 1
    assert "Not a directory" in capsys.readouterr().out
