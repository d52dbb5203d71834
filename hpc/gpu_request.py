"""Pure: how a job asks for its GPUs, which differs between sites."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from audio_tokenizers.errors import UsageError

__all__ = ["GPU_REQUESTS", "GpuOptions", "GpuRequest", "asks_for_gpus", "gpu_options", "times"]

GpuRequest = Literal["gpus-per-node", "gres", "none"]
GPU_REQUESTS: tuple[GpuRequest, ...] = ("gpus-per-node", "gres", "none")


class GpuOptions(msgspec.Struct, frozen=True):
    """Options of sbatch."""

    gpus_per_node: str | None = None
    mem_per_gpu: str | None = None
    mem: str | None = None
    further: dict[str, str | bool] = {}


def asks_for_gpus(slurm: Mapping[str, object]) -> bool:
    """Whether further sbatch options ask for GPUs already, so that a second request would contradict them."""
    named = re.search(r"\bgpu\b", str(slurm.get("gres", "")))
    return bool(named) or not slurm.keys().isdisjoint(("gpus", "gpus-per-task", "gpus-per-socket"))


def gpu_options(
    number: int, kind: str | None, request: GpuRequest, memory: str | None, slurm: Mapping[str, object]
) -> GpuOptions:
    """The options for a task's GPUs and its memory, given the further options `slurm`.

    `memory` is per GPU, which sbatch supports only with `--gpus-per-node`. Where no GPUs are requested, tasks get whole
    nodes (`--exclusive`): nothing else keeps them off each other's GPUs.
    """
    if not number:
        return GpuOptions(mem=memory)
    gpus = f"{kind}:{number}" if kind else str(number)
    own = asks_for_gpus(slurm)
    if request == "gpus-per-node" and not own:
        return GpuOptions(gpus_per_node=gpus, mem_per_gpu=memory)
    further: dict[str, str | bool] = {}
    if request == "gres" and not own:
        further["gres"] = ",".join(filter(None, [f"gpu:{gpus}", str(slurm.get("gres", ""))]))
    elif not own and slurm.keys().isdisjoint(("exclusive", "oversubscribe")):
        further["exclusive"] = True
    return GpuOptions(mem=None if memory is None else times(memory, number), further=further)


def times(memory: str, number: int) -> str:
    """`40G` times 4 -> `160G`. Raises UsageError if it is no size that Slurm accepts."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", memory.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--mem-per-gpu {memory}: expected a number and K, M, G or T, such as 40G")
    return f"{int(found[1]) * number}{found[2]}"
