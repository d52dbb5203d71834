"""jobs/taste/curves.py: the curve and the logs, and what is said where a package is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.taste import curves
from jobs.taste.curves import Board, draw_losses, missing_words

ROWS = [{"epoch": 1, "train_loss": 3.0, "test_loss": 3.5}, {"epoch": 2, "train_loss": 2.0}]


@pytest.mark.slow
def test_the_curve_is_a_png(tmp_path: Path) -> None:
    """Of one epoch as of many, with or without tests."""
    for rows in (ROWS, ROWS[:1], ROWS[1:]):
        draw_losses(rows, tmp_path)
        assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_scalars_are_logged(tmp_path: Path) -> None:
    """TensorBoard finds what was added, under its name and step; what a later start takes back is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Board(tmp_path, 0)
    for step in (1, 2, 3):
        first.add({"step/loss": 10.0 * step}, step)
    first.close()
    second = Board(tmp_path, 1)
    second.add({"step/loss": 5.0}, 2)
    second.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("step/loss")
    assert [(one.step, one.value) for one in found] == [(1, 10.0), (2, 5.0)]


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, nothing fails, and the words say what to install."""
    monkeypatch.setattr(curves, "is_installed", lambda _package: False)
    draw_losses(ROWS, tmp_path)
    board = Board(tmp_path, 0)
    board.add({"step/loss": 1.0}, 1)
    board.close()
    assert list(tmp_path.iterdir()) == []
    words = " ".join(missing_words())
    for part in (
        "matplotlib is not installed: loss_curve.png",
        "tensorboard is not installed",
        "pip install -e '.[train-taste]'",
    ):
        assert part in words
