"""Tokens for torch's DataLoader: a run, a merged file or joined runs, each clip once over all ranks and workers.

    from torch.utils.data import DataLoader
    from tools.torch_dataset import TokenDataset

    for clips in DataLoader(TokenDataset("tokens"), batch_size=16, num_workers=4, collate_fn=list):
        clips[0]["tokens"]                     # torch.int64 [codebooks, frames]
        clips[0]["text"], clips[0]["metadata"]

`TokenDataset(join_runs("text", "whisper"))` has the clips that both runs have, with the keys of both.

Clips differ in length, so the caller chooses `collate_fn`: `list` keeps them as they are. Without one, clips that torch
cannot stack raise UsageError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch.distributed
from torch.utils.data import IterableDataset, default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from audio_tokenizers.errors import UsageError
from tools.joined_runs import JoinedRuns
from tools.reader import TokenizedClip, read_run, to_torch

__all__ = ["TokenDataset"]


class _Clip(dict[str, Any]):
    """A clip, as a dict type that a DataLoader without a collate_fn recognizes."""


def _collate(clips: list[_Clip], *, collate_fn_map: object = None) -> Any:  # noqa: ANN401, ARG001 (as torch calls it)
    """Torch's default collation of a batch, with an error that names `collate_fn` if it fails."""
    try:
        return default_collate([dict(clip) for clip in clips])
    except (RuntimeError, TypeError, KeyError) as error:
        raise UsageError(
            "clips differ in length and in what they have, so torch cannot stack them: DataLoader(..., collate_fn=list) "
            "gives them as they are, and a function of your own can pad them"
        ) from error


default_collate_fn_map[_Clip] = _collate


class TokenDataset(IterableDataset[dict[str, Any]]):
    """The clips with tokens of a run directory, a merged file or joined runs, in the form of `tools.reader.to_torch`.

    The share of this process is decided when it starts to read: by `rank` and `world_size` if given, else by
    torch.distributed if it is initialised, else by RANK and WORLD_SIZE of the environment, as torchrun sets them. Every rank
    needs the same number of workers. Shares are equal in bytes (of joined runs: in clips, and each reads the lines of all):
    ranks that must make the same number of steps
    stop at the first one that ends, or use torch.distributed.algorithms.join.

    `partial_ok` accepts a run that is not finished. Do not let the run go on at the same time: workers that see different
    files divide them differently. `damaged=False` leaves out clips with missing audio. Of joined runs, both hold as
    well if join_runs was given them.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | JoinedRuns,
        *,
        partial_ok: bool = False,
        damaged: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise UsageError(f"rank={rank}, world_size={world_size}: expected both or neither")
        self._source = source if isinstance(source, JoinedRuns) else os.fspath(source)
        self._partial_ok = partial_ok
        self._damaged = damaged
        self._place = None if rank is None or world_size is None else _checked(rank, world_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rank, world_size = self._place or _distributed_place() or _environment_place()
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for clip in self._clips(rank * workers + worker, world_size * workers):
            yield _Clip(to_torch(clip))

    def _clips(self, part: int, parts: int) -> Iterator[TokenizedClip]:
        wanted = {"partial_ok": self._partial_ok, "damaged": self._damaged}
        if isinstance(self._source, JoinedRuns):
            return self._source.clips(part=part, parts=parts, **wanted)
        return read_run(self._source, part=part, parts=parts, **wanted)

    def __getstate__(self) -> dict[str, Any]:
        # Pickled by a DataLoader that spawns workers, which do not know this process's group.
        return {**self.__dict__, "_place": self._place or _distributed_place()}


def _checked(rank: int, world_size: int) -> tuple[int, int]:
    if not 0 <= rank < world_size:
        raise UsageError(f"rank {rank} of {world_size}: expected a number from 0 to {world_size - 1}")
    return rank, world_size


def _distributed_place() -> tuple[int, int] | None:
    """(rank, world size), None without a process group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _environment_place() -> tuple[int, int]:
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size is None:
        return 0, 1
    if not (rank or "").isdecimal() or not (world_size or "").isdecimal():
        raise UsageError(
            f"RANK={rank or ''}, WORLD_SIZE={world_size or ''} in the environment: expected both to be numbers, or "
            "neither set"
        )
    return _checked(int(rank or ""), int(world_size or ""))
