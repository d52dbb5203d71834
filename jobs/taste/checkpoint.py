"""checkpoint.pt: all that a training needs to go on as if nothing had happened. It appears whole or not at all.

It holds what is trained, not the frozen parts, which llm.pt has. Random numbers come from the seed and the step, and the
order of clips from the seed and the epoch, so that these three numbers are their whole state.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgspec
import torch

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.fileops import FileOps, write_atomically_with
from jobs.taste.status import CHECKPOINT as NAME

__all__ = ["NAME", "Checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = 1


class Checkpoint(msgspec.Struct, kw_only=True):
    """Plain values and tensors only."""

    settings: dict[str, Any]
    """As Settings.plain gives them."""
    corpus: str
    """Fingerprint of the clips."""
    llm_sha256: str
    text_width: int
    speech_width: int
    step: int
    """Optimizer steps so far."""
    epoch: int
    """Whole epochs so far."""
    in_epoch: int
    """Steps of the current one."""
    totals: torch.Tensor
    """Sums over the current epoch so far (Totals.values)."""
    rows: list[dict[str, Any]]
    """metrics.csv so far."""
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


class _Sink:
    """What torch.save writes to. It remembers the OSError, for which torch raises another one."""

    def __init__(self, ops: FileOps, fd: int) -> None:
        self._ops = ops
        self._fd = fd
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """All of it."""
        if self.error is None:
            try:
                self._ops.write(self._fd, data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint, ops: FileOps | None = None) -> None:
    """Replace `folder`/checkpoint.pt. On any OSError, which is raised, the one before stays."""
    ops = ops or FileOps()
    for left in folder.glob(f".{NAME}.*"):  # of a process that was killed
        ops.unlink(left)

    def save(fd: int) -> None:
        sink = _Sink(ops, fd)
        torch.save({"format": FORMAT, **msgspec.structs.asdict(checkpoint)}, sink)  # type: ignore[arg-type]
        if sink.error is not None:
            raise sink.error

    # Another process of this training, which is about to end, may take the file for a leftover: then it is written again.
    write_atomically_with(ops, folder / NAME, save)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, on the CPU, or None. Raises UsageError if it is something else."""
    path = folder / NAME
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UsageError(
            f"{path}: expected a checkpoint of {called('jobs.train_taste')}, found a damaged or other file: {error}"
        ) from None
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT or set(found) != set(Checkpoint.__struct_fields__):
        raise UsageError(
            f"{path}: expected a checkpoint of this version of {called('jobs.train_taste')}, found another file"
        )
    return Checkpoint(**found)
