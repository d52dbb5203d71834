"""jobs/taste/checkpoint.py: a checkpoint appears whole, or the one before stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from audio_tokenizers.errors import UsageError
from jobs.fileops import FileOps
from jobs.taste.checkpoint import NAME, Checkpoint, read_checkpoint, write_checkpoint


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        settings={"seed": 1},
        corpus="c",
        llm_sha256="l",
        text_width=8,
        speech_width=12,
        step=step,
        epoch=0,
        in_epoch=step,
        totals=torch.ones(4, dtype=torch.float64),
        rows=[{"epoch": 1, "train_loss": 2.5}],
        weights={"a.b": torch.arange(50_000.0)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
    )


class FullDisk(FileOps):
    """Has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: bytes) -> None:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        super().write(fd, data)


class CrashError(Exception):
    pass


class CrashAt(FileOps):
    """The process ends before this operation."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattribute__(self, name: str) -> object:
        if name == object.__getattribute__(self, "name"):
            raise CrashError
        return object.__getattribute__(self, name)


def test_all_comes_back(tmp_path: Path) -> None:
    """Tensors bit for bit, plain values as they were; a folder without one has none."""
    assert read_checkpoint(tmp_path) is None
    write_checkpoint(tmp_path, checkpoint(7))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.rows, found.settings) == (7, [{"epoch": 1, "train_loss": 2.5}], {"seed": 1})
    assert torch.equal(found.weights["a.b"], torch.arange(50_000.0))
    assert found.optimizer["param_groups"][0]["betas"] == (0.9, 0.999)
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


@pytest.mark.parametrize("room", [0, 100, 30_000, 150_000])
def test_a_full_disk_leaves_the_last_one(tmp_path: Path, room: int) -> None:
    """Wherever there is no more room; nothing else is left in the folder."""
    write_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(OSError, match="No space left on device"):
        write_checkpoint(tmp_path, checkpoint(2), FullDisk(room))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


@pytest.mark.parametrize("operation", ["fsync", "rename", "fsync_dir"])
def test_a_crash_leaves_a_whole_one(tmp_path: Path, operation: str) -> None:
    """Before the rename the old one, behind it the new one; the next write removes what was left."""
    write_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(CrashError):
        write_checkpoint(tmp_path, checkpoint(2), CrashAt(operation))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.step == (2 if operation == "fsync_dir" else 1)
    write_checkpoint(tmp_path, checkpoint(3))
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_two_writers_are_harmless(tmp_path: Path) -> None:
    """Whose file another process removes as a leftover, writes it again."""

    class Robbed(FileOps):
        times = 2

        def rename(self, source: Path, target: Path) -> None:
            if self.times:
                self.times -= 1
                source.unlink()
            super().rename(source, target)

    write_checkpoint(tmp_path, checkpoint(5), Robbed())
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 5
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_another_file_is_named(tmp_path: Path) -> None:
    """A cut file, or one of another program, is one message."""
    write_checkpoint(tmp_path, checkpoint(1))
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"checkpoint\.pt: expected a checkpoint of python -m jobs\.train_taste, found a"):
        read_checkpoint(tmp_path)
    torch.save({"model": torch.ones(1)}, path)
    with pytest.raises(UsageError, match="this version"):
        read_checkpoint(tmp_path)
