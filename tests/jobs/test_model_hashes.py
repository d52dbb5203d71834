"""jobs/model_hashes.py: the hashes that a run keeps save time, and never stand for bytes that they are not of."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from support.crashing import CrashingOps, SimulatedCrash

from audio_tokenizers.shared.file_hashes import files_sha256
from jobs.fileops import FileOps
from jobs.model_hashes import MOST_ENTRIES, SETTLED_SECONDS, ModelHashes, model_hashes_path

NOW = time.time()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A weights file of an hour ago."""
    return write(tmp_path / "model.safetensors", b"one")


def write(path: Path, data: bytes, age: float = 3600) -> Path:
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def describe(output: Path, *models: Path, ops: FileOps | None = None) -> str:
    """What a process that has just begun does to describe a backend."""
    hashes = ModelHashes(output, ops, clock=lambda: NOW)
    with hashes.in_use():
        found = files_sha256(models)
    hashes.save()
    return found


def test_the_next_process_does_not_read_the_model(tmp_path: Path, model: Path) -> None:
    """Bytes that were replaced behind its back, with size and time kept, show that it has not looked."""
    assert describe(tmp_path, model) == sha256(b"one")
    write(model, b"two")
    assert describe(tmp_path, model) == sha256(b"one")
    assert describe(tmp_path / "another run", model) == sha256(b"two")


@pytest.mark.parametrize(("data", "age"), [(b"three", 3600), (b"two", 3599), (b"two", 3600.001)])
def test_a_changed_model_is_read_again(tmp_path: Path, model: Path, data: bytes, age: float) -> None:
    """Another size, or another time of change, whichever way it went."""
    describe(tmp_path, model)
    write(model, data, age)
    assert describe(tmp_path, model) == sha256(data)
    assert describe(tmp_path, model) == sha256(data)


def test_another_path_or_other_company_is_another_model(tmp_path: Path, model: Path) -> None:
    """What is hashed is a list of files in order."""
    other = write(tmp_path / "other", b"two")
    for paths, data in (((model,), b"one"), ((other,), b"two"), ((model, other), b"onetwo"), ((other, model), b"twoone")):
        assert describe(tmp_path, *paths) == sha256(data)


def test_a_young_file_is_not_trusted(tmp_path: Path, model: Path) -> None:
    """It may change again within one tick of its clock: neither is its hash kept, nor is one that was kept believed."""
    for age in (0, SETTLED_SECONDS - 1, -60):
        write(model, b"one", age)
        assert describe(tmp_path, model) == sha256(b"one")
        assert not model_hashes_path(tmp_path).exists()
        write(model, b"two", age)
        assert describe(tmp_path, model) == sha256(b"two")
    write(model, b"one")
    describe(tmp_path, model)
    write(model, b"two")
    hashes = ModelHashes(tmp_path, clock=lambda: NOW - 3595)
    with hashes.in_use():
        assert files_sha256([model]) == sha256(b"two")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'[{"files": 3}]',
        b'[{"files": [["a", 1, 2]], "sha256": "beef"}]',
        b"\0" * 4096,
    ],
)
def test_a_broken_file_costs_only_time(tmp_path: Path, model: Path, content: bytes) -> None:
    """A full disk or another version may leave anything: it is replaced by a good one."""
    path = model_hashes_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(content)
    assert describe(tmp_path, model) == sha256(b"one")
    write(model, b"two")
    assert describe(tmp_path, model) == sha256(b"one")


@pytest.mark.parametrize("way", ["a folder in its place", "no folder", "a full disk"])
def test_whoever_cannot_write_goes_without(tmp_path: Path, model: Path, way: str) -> None:
    """A finished run may lie on a read-only disk."""

    class Full(FileOps):
        def write(self, fd: int, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    if way == "a folder in its place":
        model_hashes_path(tmp_path).mkdir(parents=True)
    elif way == "no folder":
        (tmp_path / ".run").write_bytes(b"")
    for data in (b"one", b"two"):
        write(model, data)
        assert describe(tmp_path, model, ops=Full() if way == "a full disk" else None) == sha256(data)
    assert not list(tmp_path.glob(".run/.*"))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash_at", range(6))
def test_a_crash_leaves_old_or_new(tmp_path: Path, model: Path, crash_at: int, after: bool) -> None:
    """At each step of writing: the next process finds what was there before, and computes the rest."""
    other = write(tmp_path / "other", b"two")
    describe(tmp_path, other)
    with contextlib.suppress(SimulatedCrash):
        assert describe(tmp_path, model, ops=CrashingOps(crash_at, after=after)) == sha256(b"one")
    write(other, b"new")
    assert describe(tmp_path, other) == sha256(b"two")
    assert describe(tmp_path, model) == sha256(b"one")


def test_writers_at_once_leave_a_good_file(tmp_path: Path) -> None:
    """A thousand tasks may begin in one second: each gets its own hash, and the file stays readable."""
    models = [write(tmp_path / f"{number}.bin", b"%d" % number) for number in range(8)]
    found: dict[int, str] = {}

    def work(number: int) -> None:
        found[number] = describe(tmp_path, models[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: sha256(b"%d" % number) for number in range(len(models))}
    assert [entry.name for entry in (tmp_path / ".run").iterdir()] == ["model_hashes.json"]
    assert all(describe(tmp_path, model) == sha256(b"%d" % number) for number, model in enumerate(models))


def test_the_file_stays_small(tmp_path: Path) -> None:
    """Models come and go in a long run; the latest are kept."""
    for number in range(MOST_ENTRIES + 3):
        describe(tmp_path, write(tmp_path / f"{number}.bin", b"one"))
    for number in range(MOST_ENTRIES + 3):
        write(tmp_path / f"{number}.bin", b"two")
    assert describe(tmp_path, tmp_path / f"{MOST_ENTRIES + 2}.bin") == sha256(b"one")
    assert describe(tmp_path, tmp_path / "0.bin") == sha256(b"two")


def test_a_path_of_any_bytes(tmp_path: Path) -> None:
    """Names on disk need not be UTF-8."""
    name = os.fsdecode(b"mod\xe9l.pt")
    model = write(tmp_path / name, b"one")
    assert describe(tmp_path, model) == sha256(b"one")
    write(model, b"two")
    assert describe(tmp_path, model) == sha256(b"one")


def test_nothing_new_writes_nothing(tmp_path: Path, model: Path) -> None:
    """A thousand workers that find the hash do not each write the file again."""
    describe(tmp_path, model)
    before = model_hashes_path(tmp_path).stat()
    describe(tmp_path, model)
    after = model_hashes_path(tmp_path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
