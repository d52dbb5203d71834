"""checkpoint.pt: all that a training needs to go on as if nothing had happened. It appears whole or not at all.

It holds what is trained, not the frozen parts, which llm.pt has. Random numbers come from the seed and the step, and the
order of clips from the seed and the epoch, so that these three numbers are their whole state.
"""

from __future__ import annotations

import os
import pickle
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch

from audio_tokenizers.errors import UsageError
from jobs.fileops import FileOps

__all__ = ["NAME", "Checkpoint", "read_checkpoint", "write_checkpoint"]

NAME = "checkpoint.pt"
FORMAT = 1
TRIES = 3


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
    for tries in reversed(range(TRIES)):
        temporary = _write_beside(folder, checkpoint, ops)
        try:
            ops.rename(temporary, folder / NAME)
            break
        except FileNotFoundError:  # another process of this training, which is about to end, has taken it for a leftover
            if not tries:
                raise
    ops.fsync_dir(folder)


def _write_beside(folder: Path, checkpoint: Checkpoint, ops: FileOps) -> Path:
    temporary = folder / f".{NAME}.{uuid.uuid4().hex[:12]}"
    fd = ops.create(temporary)
    sink = _Sink(ops, fd)
    try:
        torch.save({"format": FORMAT, **msgspec.structs.asdict(checkpoint)}, sink)  # type: ignore[arg-type]
        if sink.error is not None:
            raise sink.error
        ops.fsync(fd)
    except OSError:
        with suppress(OSError):
            ops.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, on the CPU, or None. Raises UsageError if it is something else."""
    path = folder / NAME
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UsageError(
            f"{path}: expected a checkpoint of jobs.train_taste, found a damaged or other file: {error}"
        ) from None
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT or set(found) != set(Checkpoint.__struct_fields__):
        raise UsageError(f"{path}: expected a checkpoint of this version of jobs.train_taste, found another file")
    return Checkpoint(**found)
