"""Common to all torch backends: checking the device, fixing the arithmetic, and telling machine trouble from bad data."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.extras import install_words
from audio_tokenizers.shared.wording import counted, first_line

__all__ = [
    "fix_arithmetic",
    "in_float64",
    "loaded",
    "on_device",
    "package_versions",
    "require_bfloat16",
    "require_device",
    "use_one_thread",
]

if TYPE_CHECKING:
    from torch import Tensor

SMALLER = "a smaller --max-tokens-per-fragment or --max-duration"
"""Advice on an out-of-memory error where clips are encoded one at a time."""
OUT_OF_MEMORY = re.compile(r"allocate memory|ALLOC_FAILED|MPS backend out of memory|[Ii]nsufficient [Mm]emory")
MPS_LACKS = re.compile(r"MPS device|MPS framework|supported (on|at|in|by) (the )?MPS|MPS: .*supported")
MPS_FAILED = re.compile(r"MPS backend|Metal|command buffer|MPSGraph|IOGPU")
MPS_ARITHMETIC = ("PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL")
"""Variables that make torch round otherwise on a Mac's GPU."""
T = TypeVar("T")


def package_versions(packages: Iterable[str], extra: str) -> dict[str, str]:
    """Versions for the recipe. Raises UsageError that names the extra to install."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise UsageError(f"this backend needs {package}: {install_words(extra)}") from None
    return found


def use_one_thread() -> None:
    """From here on torch computes with one thread on the CPU."""
    import torch

    # Two threads sum in another order than one, which moved a token in some ten thousand; and how many threads a worker has
    # depends on how many workers there are. To use more cores, run more workers.
    torch.set_num_threads(1)


def require_device(device: str) -> None:
    """Raise InfrastructureError unless torch sees `device`. From here on torch computes with one thread on the CPU."""
    import torch

    use_one_thread()
    if device == "mps":
        _require_mps()
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise InfrastructureError(
            f"device {device!r}: torch {torch.__version__} sees no CUDA device: is it a CUDA build, and has this job a GPU?"
        )
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise InfrastructureError(f"device {device!r}: torch sees {counted(count, 'CUDA device')}, numbered from 0")


def _require_mps() -> None:
    import torch

    if not torch.backends.mps.is_built():
        raise InfrastructureError(
            f"device 'mps': torch {torch.__version__} is a build without MPS, which a Mac's builds have"
        )
    if not torch.backends.mps.is_available():
        raise InfrastructureError(
            f"device 'mps': torch {torch.__version__} sees no GPU: expected a Mac with Apple silicon and a macOS that this "
            "torch supports; --device cpu does without"
        )
    for name in MPS_ARITHMETIC:
        if os.environ.get(name, "0") not in ("", "0"):
            raise InfrastructureError(f"device 'mps': {name} is set and would change tokens: unset {name}")


def in_float64(tensor: Tensor) -> Tensor:
    """`tensor` as float64 on its device, or on the host if it is on MPS, which has no float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def require_bfloat16(device: str) -> None:
    """Raise InfrastructureError if `device`, which torch sees, is a GPU that would only emulate bfloat16."""
    import torch

    if device.startswith("cuda") and torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        raise InfrastructureError(
            f"device {device!r}: {name} has no bfloat16: take precision=fp32, or an Ampere or newer GPU"
        )


def loaded(device: str, load: Callable[[], T], narrow: Callable[[T], None] | None = None) -> T:
    """What `load` makes on `device`; `narrow` then has parts of it compute in bfloat16.

    Raises InfrastructureError where torch does not see the device, or the device does not have what is asked of it.
    """
    require_device(device)
    if narrow is not None:
        require_bfloat16(device)
    network = on_device(device, load)
    if narrow is not None:
        on_device(device, lambda: narrow(network))
    return network


def fix_arithmetic(*, tf32: bool) -> None:
    """Set what the recipe promises. On each call: the flags belong to the process, and others may turn them."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # The older switches first: they move the newer ones, of torch 2.9 and later, but where TF32 is off they leave
    # convolutions to whatever the process prefers. In this order both agree, and reading either raises no error.
    matmul.allow_tf32 = tf32
    cudnn.allow_tf32 = tf32
    parts: list[Any] = [matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)]
    for part in parts:
        if hasattr(part, "fp32_precision"):
            part.fp32_precision = "tf32" if tf32 else "ieee"
    # Long sums of bfloat16 products stay in float32, also where a kernel splits them.
    matmul.allow_bf16_reduced_precision_reduction = False
    # A benchmark picks kernels by their speed on the day.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def on_device(device: str, work: Callable[[], T], smaller: str = SMALLER) -> T:
    """`work()`, with errors of the machine as InfrastructureError; all others pass.

    `smaller` is what to take where the memory is not enough.
    """
    try:
        return work()
    except (MemoryError, RuntimeError, TypeError) as error:
        trouble = _machine_trouble(error, device, smaller)
    # Only here, past the except block, are the traceback and the activations in its frames gone.
    _release_memory(device)
    raise trouble


def _machine_trouble(error: MemoryError | RuntimeError | TypeError, device: str, smaller: str) -> InfrastructureError:
    """What to report if the machine is at fault; raises `error` again if it is not."""
    import torch

    text = first_line(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or OUT_OF_MEMORY.search(text):
        return InfrastructureError(f"out of memory on {device}: take {smaller}, or more memory ({text})")
    if device.startswith("cuda") and re.search(r"cuda|cudnn|cublas|nvrtc", text, re.IGNORECASE):
        return InfrastructureError(f"CUDA failed on {device}; if it does again on this node, exclude the node ({text})")
    if device == "mps" and MPS_LACKS.search(text):
        # NotImplementedError or TypeError: what a clip holds has no part in it.
        return InfrastructureError(
            f"torch {torch.__version__} cannot compute this backend on MPS: take a newer torch and macOS, or --device cpu, "
            f"or have the CPU compute what MPS lacks: export PYTORCH_ENABLE_MPS_FALLBACK=1 ({text})"
        )
    if device == "mps" and MPS_FAILED.search(text):
        return InfrastructureError(f"the GPU failed on {device}; if it does again, restart the Mac ({text})")
    raise error


def _release_memory(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        try:
            torch.cuda.empty_cache()
        except RuntimeError:
            # After an illegal access each call fails; the error that is on its way says so better.
            return
    elif device == "mps":
        torch.mps.empty_cache()
