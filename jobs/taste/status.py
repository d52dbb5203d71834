"""training.json: how far a training is, for processes without torch. Only checkpoint.pt is ever resumed from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from audio_tokenizers.errors import UsageError
from jobs.any_json import decode_json

__all__ = ["CHECKPOINT", "Status", "other_training", "read_status", "refuse_training", "write_status"]

NAME = "training.json"
CHECKPOINT = "checkpoint.pt"
"""What a training goes on from (jobs/taste/checkpoint.py)."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are from 0."""

    settings: dict[str, Any]
    """As Settings.plain gives them."""
    epochs: int
    """Epochs to train in all."""
    epoch: int
    """Whole epochs so far."""
    step: int
    """Optimizer steps so far."""
    saved: int
    """Steps that checkpoint.pt has."""
    in_epoch: int
    """Steps of the current epoch so far."""
    steps: int
    """Steps of an epoch; 0 before it is known."""
    loss: float | None = None
    """Of the last step."""
    losses: dict[str, float] = {}
    """`train` and `test` -> the mean loss of the last whole epoch."""

    def describe(self) -> str:
        """`epoch 3 of 10, step 120 of 400 (920 in all), loss 5.3121; epoch 2: train loss 5.4012, test loss 5.5031`."""
        if self.epoch >= self.epochs:
            words = f"{self.epoch} of {self.epochs} epochs done, {self.step:,} steps"
        else:
            words = f"epoch {self.epoch + 1} of {self.epochs}, step {self.in_epoch:,}"
            words += f" of {self.steps:,}" if self.steps else ""
            words += f" ({self.step:,} in all)"
            words += f", loss {self.loss:.4f}" if self.loss is not None else ""
        losses = [f"{part} loss {loss:.4f}" for part, loss in self.losses.items()]
        return "; ".join([words, *([f"epoch {self.epoch}: {', '.join(losses)}"] if losses else [])])


def write_status(folder: Path, status: Status) -> None:
    """Replace `folder`/training.json. A failure costs nothing but news."""
    temporary = folder / f".{NAME}.new"
    with suppress(OSError):
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(status)))
        temporary.replace(folder / NAME)


def read_status(folder: Path) -> Status | None:
    """How far the training in a folder is, or None where nothing readable says so. Without checkpoint.pt, which may have
    been moved away, nothing is saved.
    """
    try:
        status = decode_json((folder / NAME).read_bytes(), Status)
    except (OSError, msgspec.DecodeError):
        return None
    return status if (folder / CHECKPOINT).exists() else msgspec.structs.replace(status, saved=0)


def refuse_training(folder: Path) -> None:
    """Raise UsageError if the folder, which tokens shall go to, holds a training."""
    if (folder / CHECKPOINT).exists():
        raise UsageError(f"--output-dir {folder}: it holds a training: give another folder for tokens")


def other_training(folder: Path, differences: Sequence[str]) -> UsageError:
    """The message that a folder holds another training than the one that was asked for."""
    return UsageError(
        f"--output-dir {folder}: it holds a training with other settings ({'; '.join(differences)}): take "
        "another folder, or the settings that it began with"
    )
