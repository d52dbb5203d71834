"""jobs/fileops.py: whole files or none."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.crashing import CrashingOps, SimulatedCrash

from audio_tokenizers.errors import InfrastructureError
from jobs.fileops import (
    FileOps,
    StorageError,
    append_line,
    describe_error,
    end_last_line,
    output_files,
    public_name,
    speaks_of_storage,
    write_atomically,
    write_if_absent,
)


def test_an_atomic_write_is_old_or_new_at_every_crash(tmp_path: Path) -> None:
    """A crash at any step leaves the old bytes or the new ones, never a mix."""
    for after in (False, True):
        for crash_at in range(6):
            path = tmp_path / f"{after}-{crash_at}"
            path.write_bytes(b"old")
            try:
                write_atomically(CrashingOps(crash_at, after=after), path, b"new!")
            except SimulatedCrash:
                assert path.read_bytes() in (b"old", b"new!")
            else:
                assert path.read_bytes() == b"new!"


def test_a_flush_is_asked_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a file are flushed before it gets its name, and its folder afterwards, so that the name lasts."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    for write in (write_atomically, write_if_absent):
        path = tmp_path / write.__name__
        write(FileOps(), path, b"new!")
        assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]
        flushed.clear()


def test_of_many_writers_exactly_one_creates(tmp_path: Path) -> None:
    """write_if_absent is the first one's, whole, and says so to it alone; nothing is left over."""
    path = tmp_path / "claim"
    won: list[int] = []

    def write(number: int) -> None:
        if write_if_absent(FileOps(), path, str(number).encode() * 1000):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == str(won[0]).encode() * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["claim"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """An error on the way removes the temporary file and keeps the old one."""

    class NoRename(FileOps):
        def rename(self, source: Path, target: Path) -> None:
            raise PermissionError(13, "Permission denied")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(PermissionError):
        write_atomically(NoRename(), path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_create_refuses_what_exists(tmp_path: Path) -> None:
    """A fresh file is fresh."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(FileExistsError):
        FileOps().create(tmp_path / "a")


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    """A thousand workers that cannot write must not leave a thousand names."""

    class Full(FileOps):
        def write(self, fd: int, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    for write in (write_atomically, write_if_absent):
        with pytest.raises(OSError, match="No space left"):
            write(Full(), tmp_path / "a", b"new")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_atomically, write_if_absent])
def test_a_temporary_file_that_was_tidied_up_is_written_again(write: Callable[..., object], tmp_path: Path) -> None:
    """Whoever commits a tar may take a writer that is late for a dead one; if that goes on, it is told."""

    class Swept(FileOps):
        sweeps = 0

        def _swept(self, path: Path) -> None:
            if self.sweeps:
                self.sweeps -= 1
                path.unlink()

        def rename(self, source: Path, target: Path) -> None:
            self._swept(source)
            super().rename(source, target)

        def link(self, source: Path, target: Path) -> None:
            self._swept(source)
            super().link(source, target)

    ops, path = Swept(), tmp_path / "a"
    ops.sweeps = 2
    write(ops, path, b"new")
    assert path.read_bytes() == b"new"
    ops.sweeps = 3
    with pytest.raises(FileNotFoundError):
        write(ops, tmp_path / "b", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("private", "name"),
    [
        ("/d/.list.txt.0123456789ab", "/d/list.txt"),
        (".1.jsonl.partial.0123456789ab", "1.jsonl.partial"),
        ("a/.all.jsonl.node-1.4711.new", "a/all.jsonl"),
        ("tasks/.00001.json.new", "tasks/00001.json"),
        ("/d/1.tar", "/d/1.tar"),
        ("/home/me/.hidden.tar", "/home/me/.hidden.tar"),
        ("/home/.me/1.tar", "/home/.me/1.tar"),
    ],
)
def test_private_names_are_nobodys_to_read(private: str, name: str) -> None:
    """A message names the file that a person knows, and not the one that is written beside it."""
    assert public_name(private) == name


@pytest.mark.parametrize(
    ("error", "file", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "/d/.1.jsonl.partial.0123456789ab"),
            "",
            "/d/1.jsonl.partial: No space left",
        ),
        (OSError(errno.EIO, "I/O error", "/d/a"), "/d/b", "/d/a: I/O error"),
        (OSError(errno.EIO, "I/O error"), "/d/b", "/d/b: I/O error"),
        (OSError(errno.EIO, "I/O error", 7), "/d/b", "/d/b: I/O error"),  # a descriptor means nothing to the user
        (OSError(errno.EIO, "I/O error", b"/d/\xff"), "", "/d/\udcff: I/O error"),
        (OSError(errno.EIO, "I/O error"), "", "I/O error"),
        (OSError("said by a library"), "", "said by a library"),
        (ValueError("wrong"), "/d/b", "wrong"),
        (MemoryError(), "", "out of memory"),
    ],
)
def test_an_error_is_one_line_with_its_file(error: BaseException, file: str, words: str) -> None:
    """Where the error names no file, the one in hand; a number of a descriptor is none."""
    assert describe_error(error, file) == words


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    """Behind one that a full disk has cut a new line begins; a file that is not there yet is made."""
    path = tmp_path / "history"
    append_line(path, b"one")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"one\ntw")
    append_line(path, b"three")
    assert path.read_bytes() == b"one\ntw\nthree\n"


def test_no_last_line_to_end(tmp_path: Path) -> None:
    """Files that are missing or empty stay so; pipes and folders are left alone, and nobody waits for them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for path in (tmp_path / "missing", tmp_path / "empty", tmp_path / "pipe", tmp_path, Path("/dev/full")):
        end_last_line(path)
    assert not (tmp_path / "missing").exists()
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize(
    ("number", "trouble"),
    [(errno.ENOSPC, "full"), (errno.EDQUOT, "full"), (errno.EROFS, "away"), (errno.ESTALE, "away"), (errno.EIO, "away")],
)
def test_what_speaks_of_storage(number: int, trouble: str) -> None:
    """No room, or no file system: then it is told as that."""
    with pytest.raises(StorageError, match=r"a: .*x") as raised, output_files("a"):
        raise OSError(number, os.strerror(number), "x")
    assert raised.value.trouble == trouble


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EACCES, errno.EFBIG])
def test_what_does_not_speak_of_storage(number: int) -> None:
    """Other trouble with the machine is just that."""
    with pytest.raises(InfrastructureError) as raised, output_files("a"):
        raise OSError(number, os.strerror(number))
    assert not isinstance(raised.value, StorageError)
    assert not speaks_of_storage(os.strerror(number))
