"""Which GPUs this process may use, found without torch."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted

__all__ = ["CPU", "CUDA_ONLY", "DeviceName", "available_cores", "choose_device", "device_name", "gpus_of", "visible_gpus"]

DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
NO_MORE = ("", "-1", "NoDevFiles")
CUDA_ONLY = ("auto", "cpu", "cuda")
"""Values of --device where a Mac's GPU is of no use."""


@dataclass(frozen=True, slots=True)
class DeviceName:
    """Which device made tokens."""

    name: str = "cpu"
    """`cpu`, `mps`, or the GPU's name."""
    gpu: str = ""
    """Its UUID, or where that is not known what CUDA_VISIBLE_DEVICES calls it."""


CPU = DeviceName()


def device_name(device: str) -> DeviceName:
    """The name of a `device` that `choose_device` returned. If the backend uses it through torch, torch knows its UUID."""
    if not device.startswith("cuda"):
        return DeviceName(device)
    number = int(device.partition(":")[2] or 0)
    known: Any = sys.modules.get("torch")
    if known is not None and known.cuda.is_initialized():
        properties = known.cuda.get_device_properties(number)
        if uuid := getattr(properties, "uuid", None):
            return DeviceName(properties.name, f"GPU-{uuid}")
    gpus = visible_gpus()
    return DeviceName("cuda", gpus[number] if number < len(gpus) else str(number))


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one per GPU: those it already lists, else all that the driver has."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = (name.strip() for name in listed.split(","))
        return list(itertools.takewhile(lambda name: name not in NO_MORE, names))  # CUDA too ends at the first that is none
    try:
        return [str(number) for number in range(len(list(DRIVER_FOLDER.iterdir())))]
    except OSError:
        return []


def gpus_of(device: str) -> list[str]:
    """Names of the GPUs that workers on `device`, a kind or one GPU, share on this machine."""
    if device == "mps":
        return ["mps"]  # a Mac has one
    return [] if device == "cpu" else visible_gpus()


def choose_device(asked: str, gpu_id: int = 0, kinds: Sequence[str] = (*CUDA_ONLY, "mps")) -> str:
    """One of `kinds` -> `cpu`, `mps` or `cuda:N`, N counted among the visible GPUs.

    `auto` is never `mps`: its tokens differ from a CPU's, so a run has to ask for it.
    """
    if asked not in kinds:
        raise UsageError(f"--device {asked!r}: expected {', '.join(kinds[:-1])} or {kinds[-1]}")
    if asked == "mps":
        if sys.platform != "darwin":
            raise UsageError(f"--device mps: expected a Mac, found {sys.platform}; --device cuda is for GPUs of NVIDIA")
        if gpu_id:
            raise UsageError(f"--gpu-id {gpu_id}: a Mac has one GPU, number 0")
        return "mps"
    gpus = visible_gpus()
    if asked == "cpu" or (asked == "auto" and not gpus and gpu_id == 0):
        return "cpu"
    if not gpus:
        found = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"no NVIDIA driver in {DRIVER_FOLDER}" if found is None else f"CUDA_VISIBLE_DEVICES is {found!r}"
        raise UsageError(f"--device {asked}: expected a GPU, found none ({why}); --device cpu does without")
    if not 0 <= gpu_id < len(gpus):
        raise UsageError(f"--gpu-id {gpu_id}: this process sees {counted(len(gpus), 'GPU')}, numbered from 0")
    return f"cuda:{gpu_id}"


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
