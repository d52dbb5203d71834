"""Runs boson-multimodal's own, unmodified code on a checkpoint; a script, so that its imports and its offline hub stay out.

Usage: boson_reference.py MODEL_DIR WAVES.npz CODES.npz, with HF_HOME at a cache that has bosonai/hubert_base. A clip that
boson refuses gets an empty array.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def load(model_dir: Path) -> Any:
    """Boson's tokenizer of a checkpoint of its layout, on the CPU."""
    warnings.simplefilter("ignore")
    import torch
    from boson_multimodal.audio_processing.higgs_audio_tokenizer import load_higgs_audio_tokenizer

    # Its default device is "cuda".
    tokenizer = load_higgs_audio_tokenizer(str(model_dir), device="cpu")
    # Its loader is not strict: a file with other names would leave it with random weights, and us with a false alarm.
    tokenizer.load_state_dict(torch.load(model_dir / "model.pth", weights_only=True), strict=True)
    return tokenizer


def encode(tokenizer: Any, wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Boson's codes [codebooks, frames] of float32 [samples] at 24 kHz; no frames where it refuses the clip."""
    try:
        codes: npt.NDArray[np.int64] = tokenizer.encode(wave, sr=24000).numpy()
        return codes
    except RuntimeError:
        return np.empty((8, 0), np.int64)


def main(model_dir: str, waves_path: str, codes_path: str) -> None:
    tokenizer = load(Path(model_dir))
    with np.load(waves_path) as waves:
        codes: dict[str, Any] = {name: encode(tokenizer, waves[name]) for name in waves.files}
    np.savez(codes_path, **codes)


if __name__ == "__main__":
    main(*sys.argv[1:])
