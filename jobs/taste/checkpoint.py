"""checkpoint.pt: all that a training needs to go on as if nothing had happened. It appears whole or not at all.

It holds what is trained, not the frozen parts, which llm.pt has. Random numbers come from the seed and the step, and the
order of clips from the seed and the epoch, so that these three numbers are their whole state.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
import torch

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from jobs.fileops import FileOps, write_atomically_with
from jobs.taste.status import CHECKPOINT as NAME

__all__ = ["ELSEWHERE", "NAME", "ON_A_SHARE", "Checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = 1
ON_A_SHARE, ELSEWHERE = " tested on a share", " tested elsewhere"
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
"""Raised by zipfile and torch's restricted unpickler for a file that is damaged or another one."""


class Checkpoint(msgspec.Struct, kw_only=True):
    """Plain values and tensors only."""

    settings: dict[str, Any]
    """As Settings.plain gives them."""
    corpus: str
    """Fingerprint of the clips, and behind it ON_A_SHARE or ELSEWHERE, for where the clips come from that are tested on.
    Older checkpoints lack that.
    """
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
        damaged = _damaged_part(path)  # torch.load compares no checksums
        found = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UNREADABLE as error:
        raise _not_a_checkpoint(path, str(error)) from None
    if damaged is not None:
        raise _not_a_checkpoint(path, f"{damaged} does not have the checksum that was written")
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT or set(found) != set(Checkpoint.__struct_fields__):
        raise UsageError(
            f"{path}: expected a checkpoint of this version of {called('jobs.train_taste')}, found another file"
        )
    return Checkpoint(**found)


def _damaged_part(path: Path) -> str | None:
    """The first part of the file whose bytes are not those that were written."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _not_a_checkpoint(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path}: expected a checkpoint of {called('jobs.train_taste')}, found a damaged or other file: {why}; to go on "
        "from an older copy, put it there; to begin anew, move this one away"
    )
