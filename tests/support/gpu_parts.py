"""Parts of benchmarks.gpu that end in every way there is; importable by the processes that run them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["crash", "fail", "hang", "succeed"]

Emit = Callable[[dict[str, Any]], None]


def succeed(device: str, sizes: object, scratch: Path, emit: Emit, left: Callable[[], float]) -> None:
    """Two records."""
    emit({"kind": "machine", "device": device, "cores": 1, "python": "3", "torch": "2", "transformers": "5"})
    emit({"kind": "bare", "backend": "fine", "precision": "fp32", "rate": 2.0, "clips": 1})


def crash(device: str, sizes: object, scratch: Path, emit: Emit, left: Callable[[], float]) -> None:
    """A record, and then what a fault in a driver does."""
    emit({"kind": "bare", "backend": "crashing", "precision": "fp32", "rate": 3.0, "clips": 1})
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(device: str, sizes: object, scratch: Path, emit: Emit, left: Callable[[], float]) -> None:
    """A record, and then nothing any more, with a program of its own beside it, which says who it is."""
    emit({"kind": "bare", "backend": "hanging", "precision": "fp32", "rate": 4.0, "clips": 1})
    if os.fork() == 0:
        emit({"kind": "child", "pid": os.getpid()})
    time.sleep(1000)


def fail(device: str, sizes: object, scratch: Path, emit: Emit, left: Callable[[], float]) -> None:
    """A record and an exception."""
    emit({"kind": "bare", "backend": "failing", "precision": "fp32", "rate": 5.0, "clips": 1})
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore words")
