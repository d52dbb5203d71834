"""Make PyPI's torchaudio importable beside a CPU build of torch, by removing the CUDA libraries that it would load.

Does nothing where torch is a CUDA build. What is lost (a faster lfilter, forced alignment, RNN-T) is not used here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

if torch.version.cuda is None:
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        raise SystemExit("error: torchaudio is not installed")
    for library in (Path(spec.origin).parent / "lib").glob("*.so"):
        library.unlink()
