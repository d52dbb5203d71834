"""tools/merging/partial.py: copies, and the order in which bytes and the log that vouches for them reach the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.committed_runs import make_run, some_records

from tools.merging import partial as module
from tools.merging.index import Header, MergePaths, read_index
from tools.merging.members import Made
from tools.merging.partial import Growing, MergeOps


class NotingOps(MergeOps):
    """Notes what is made durable, and how often."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def write(self, fd: int, data: bytes) -> None:
        self.steps.append(f"write {name_of(fd)}")
        super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self.steps.append(f"fsync {name_of(fd)}")
        super().fsync(fd)


def name_of(fd: int) -> str:
    return Path(f"/proc/self/fd/{fd}").readlink().name


class TestCopy:
    @pytest.fixture(params=["kernel", "none", "refused", "gives up"])
    def source(self, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """A file of 1,000 bytes, and file systems of every kind."""

        def refused(*_: object, **__: object) -> int:
            raise OSError(errno.EXDEV, "another file system")

        if request.param == "none":
            monkeypatch.delattr(os, "copy_file_range", raising=False)
        elif request.param != "kernel":
            monkeypatch.setattr(os, "copy_file_range", refused if request.param == "refused" else lambda *_, **__: 0)
        monkeypatch.setattr(module, "COPY_BYTES", 64)
        (tmp_path / "source").write_bytes(bytes(range(250)) * 4)
        fd = os.open(tmp_path / "source", os.O_RDONLY)
        yield fd
        os.close(fd)

    def test_a_range(self, source: int, tmp_path: Path) -> None:
        """Any range of a file is appended, whether or not the kernel can copy within this file system."""
        fd = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
        MergeOps().write(fd, b"ab")
        MergeOps().copy(fd, source, 10, 700)
        MergeOps().copy(fd, source, 0, 0)
        MergeOps().write(fd, b"c")
        os.close(fd)
        assert (tmp_path / "target").read_bytes() == b"ab" + (bytes(range(250)) * 4)[10:710] + b"c"

    def test_a_file_that_ends_too_soon(self, source: int, tmp_path: Path) -> None:
        """Fewer bytes than there should be are an error, not a hole."""
        fd = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="shorter"):
            MergeOps().copy(fd, source, 500, 501)
        os.close(fd)

    def test_trouble_with_the_disk(self, source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full disk is not taken for a file system that cannot copy."""

        def full(*_: object, **__: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "copy_file_range", full, raising=False)
        with pytest.raises(OSError, match="No space"):
            MergeOps().copy(0, source, 0, 10)


def test_the_log_follows_the_bytes(tmp_path: Path) -> None:
    """An entry is logged only after its member's bytes have reached the disk, once so many bytes have gathered."""
    files = make_run(tmp_path / "tokens", {str(n): some_records(n) for n in range(3)})
    paths, ops = MergePaths(tmp_path / "all.jsonl"), NotingOps()
    growing = Growing(paths, Header(None, "plain"), [], ops=ops, checkpoint_bytes=files[0].bytes + files[1].bytes)
    partial, log = paths.partial.name, paths.partial_index.name
    ops.steps.clear()
    for file, steps in zip(
        files,
        ([f"write {partial}"], [f"write {partial}", f"fsync {partial}", f"write {log}"], [f"write {partial}"]),
        strict=True,
    ):
        growing.put(file.path.read_bytes())
        growing.add(file, Made(4))
        assert ops.steps == steps
        ops.steps.clear()
    found = read_index(paths.partial_index, paths.partial)
    assert found is not None
    assert [entry.name for entry in found.entries] == ["0", "1"]
    growing.checkpoint()
    growing.checkpoint()
    assert ops.steps == [f"fsync {partial}", f"write {log}"]
    growing.close()
