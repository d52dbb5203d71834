"""Which GPUs this process may use, found without torch."""

from __future__ import annotations

import os
from pathlib import Path

from audio_tokenizers.errors import UsageError

__all__ = ["available_cores", "choose_device", "visible_gpus"]

DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one per GPU: those it already lists, else all that the driver has."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        return [str(number) for number in range(len(list(DRIVER_FOLDER.iterdir())))]
    except OSError:
        return []


def choose_device(asked: str, gpu_id: int = 0) -> str:
    """`auto`, `cpu` or `cuda` -> `cpu` or `cuda:N`, N counted among the visible GPUs."""
    gpus = visible_gpus()
    if asked == "cpu" or (asked == "auto" and not gpus):
        return "cpu"
    if asked not in ("auto", "cuda"):
        raise UsageError(f"--device {asked!r}: expected auto, cpu or cuda")
    if not 0 <= gpu_id < len(gpus):
        raise UsageError(f"--gpu-id {gpu_id}: this process sees {len(gpus)} GPUs")
    return f"cuda:{gpu_id}"


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
