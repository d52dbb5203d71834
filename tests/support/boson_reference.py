"""Runs boson-multimodal's own, unmodified code on a checkpoint; a script, so that its imports and its offline hub stay out.

Usage: boson_reference.py MODEL_DIR WAVES.npz CODES.npz, with HF_HOME at a cache that has bosonai/hubert_base. A clip that
boson refuses gets an empty array.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np


def main(model_dir: str, waves_path: str, codes_path: str) -> None:
    warnings.simplefilter("ignore")
    import torch
    from boson_multimodal.audio_processing.higgs_audio_tokenizer import load_higgs_audio_tokenizer

    # Its default device is "cuda".
    tokenizer = load_higgs_audio_tokenizer(model_dir, device="cpu")
    # Its loader is not strict: a file with other names would leave it with random weights, and us with a false alarm.
    tokenizer.load_state_dict(torch.load(Path(model_dir) / "model.pth", weights_only=True), strict=True)

    def encode(wave: np.ndarray) -> np.ndarray:
        try:
            return tokenizer.encode(wave, sr=24000).numpy()
        except RuntimeError:
            return np.empty((8, 0), np.int64)

    with np.load(waves_path) as waves:
        codes = {name: encode(waves[name]) for name in waves.files}
    np.savez(codes_path, **codes)


if __name__ == "__main__":
    main(*sys.argv[1:])
