"""The processes of one training, one per GPU, as torchrun and Slurm start them; a process alone is rank 0 of 1.

Gradients are summed here, and not by DistributedDataParallel: a step's loss is the sum over all of its clips divided by all
of its unit positions, however unevenly the clips fall on the ranks, and a rank may have none.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

from audio_tokenizers.errors import UsageError
from jobs.taste.endings import LostRankError

__all__ = ["Ranks", "joined_ranks"]

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = dt.timedelta(minutes=30)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """A process among those of its training."""

    rank: int = 0
    world: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of a step that is this rank's: neighbours, as many as other ranks have or one more; there may be none."""
        return items[len(items) * self.rank // self.world : len(items) * (self.rank + 1) // self.world]

    def add_up(self, values: torch.Tensor) -> None:
        """Replace `values` by the sum over all ranks. Raises LostRankError where another rank has ended."""
        if self.world == 1:
            return
        try:
            distributed.all_reduce(values)
        except RuntimeError as error:
            raise LostRankError(f"rank {self.rank}: another rank of this training has ended: {error}") from None

    def add_up_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """The same of all gradients in one message; those that a rank does not have count as zero."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        self.add_up(together)
        for gradient, part in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self, device: str) -> None:
        """Until all ranks are here."""
        self.add_up(torch.zeros(1, device=device))


@contextmanager
def joined_ranks(environment: Mapping[str, str], device: str, listener: socket.socket | None = None) -> Iterator[Ranks]:
    """Join the other ranks that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT speak of: nccl on GPUs, gloo on CPUs.

    With a `listener`, which the process that started all ranks has bound to MASTER_PORT, rank 0 serves there: no other
    program can take the port first. Raises UsageError if only some of the variables are set, LostRankError if the others
    cannot be reached.
    """
    found = {name for name in NEEDED if environment.get(name)}
    if "WORLD_SIZE" not in found or environment["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    if missing := sorted(set(NEEDED) - found):
        raise UsageError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}: expected {', '.join(missing)} as well, as torchrun sets them"
        )
    ranks = Ranks(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    host, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    try:
        meeting: dict[str, Any] = {"init_method": f"tcp://{host}:{port}"}
        if listener is not None:
            meeting = {"store": _store(host, int(port), ranks, listener)}
        distributed.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo",
            **meeting,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise LostRankError(f"rank {ranks.rank}: {host}:{port} does not answer: {error}") from None
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def _store(host: str, port: int, ranks: Ranks, listener: socket.socket) -> Any:  # noqa: ANN401 (torch exports the class without its type)
    """What the ranks meet by. Rank 0's has a descriptor of its own of the listener."""
    meeting: dict[str, Any] = {"host_name": host, "port": port, "world_size": ranks.world, "timeout": PATIENCE}
    if ranks.rank == 0:
        meeting |= {"is_master": True, "master_listen_fd": os.dup(listener.fileno())}
    return distributed.TCPStore(**meeting, wait_for_workers=False)  # type: ignore[attr-defined]
