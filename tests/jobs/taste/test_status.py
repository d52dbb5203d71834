"""jobs/taste/status.py: how far a training is, for those who have no torch; never in its way."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jobs.taste.status import CHECKPOINT, NAME, Status, read_status, write_status

SOME = Status(
    settings={"seed": 0},
    epochs=3,
    epoch=1,
    step=1234,
    saved=1200,
    in_epoch=234,
    steps=1000,
    loss=5.25,
    losses={"train": 5.5, "test": 6.0},
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """The file replaces the one before, and nothing else is left in the folder. What is saved is in checkpoint.pt."""
    write_status(tmp_path, msgspec.structs.replace(SOME, step=1))
    write_status(tmp_path, SOME)
    assert read_status(tmp_path) == msgspec.structs.replace(SOME, saved=0)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    (tmp_path / CHECKPOINT).touch()
    assert read_status(tmp_path) == SOME


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"epochs": "x"}'])
def test_nothing_readable_is_nothing_known(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, cut or foreign is no error: the checkpoint counts."""
    if content is not None:
        (tmp_path / NAME).write_bytes(content)
    assert read_status(tmp_path) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """News that cannot be written cost the training nothing."""
    write_status(tmp_path / "nowhere", SOME)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "epoch 2 of 3, step 234 of 1,000 (1,234 in all), loss 5.2500; epoch 1: train loss 5.5000, test loss 6.0000"),
        ({"epoch": 0, "losses": {}, "loss": None, "steps": 0}, "epoch 1 of 3, step 234 (1,234 in all)"),
        ({"epoch": 3, "losses": {"train": 5.5}}, "3 of 3 epochs done, 1,234 steps; epoch 3: train loss 5.5000"),
    ],
)
def test_words(changes: dict[str, object], words: str) -> None:
    """Epochs are counted from 1 for people, and what is not known is left out."""
    assert msgspec.structs.replace(SOME, **changes).describe() == words
