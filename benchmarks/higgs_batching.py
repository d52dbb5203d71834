"""What the Higgs backend gains from equal-length batches on the CPU, and whether they give the tokens of single clips.

Run from the repository root: `python benchmarks/higgs_batching.py [MODEL_PATH]`. Without weights at hand it makes a random
model of the published size. It decides what `HiggsFactory.describe` declares.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from audio_tokenizers.base import Waveform
from audio_tokenizers.higgs import FACTORY, Higgs

SECONDS = (2, 5, 15)
BATCHES = (2, 4, 8)


def build_random_model(directory: Path) -> None:
    """Random weights of the published size, transformers layout, 0.8 GB."""
    import torch
    from transformers import DacConfig, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel, HubertConfig

    strides = [8, 5, 4, 2, 3]
    acoustic: dict[str, Any] = {
        "encoder_hidden_size": 64,
        "decoder_hidden_size": 1024,
        "downsampling_ratios": strides,
        "upsampling_ratios": strides,
        "hidden_size": 256,
    }
    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        acoustic_model_config=DacConfig(**acoustic).to_dict(),
        semantic_model_config=HubertConfig().to_dict(),
    )
    torch.manual_seed(0)
    model: Any = HiggsAudioV2TokenizerModel(config)
    for quantizer in model.quantizer.quantizers:
        quantizer.codebook.embed.normal_(std=0.1)
    model.save_pretrained(directory)


def measure(backend: Higgs, seconds: int, count: int, rng: np.random.Generator) -> tuple[float, float]:
    """(time of `count` single clips over that of one batch, fraction of equal codes)."""
    waves: list[Waveform] = list(rng.standard_normal((count, seconds * 24000)).astype(np.float32) * 0.1)
    start = time.perf_counter()
    single = [backend.encode([wave])[0] for wave in waves]
    middle = time.perf_counter()
    batch = backend.encode(waves)
    end = time.perf_counter()
    return (middle - start) / (end - middle), float(np.mean(np.stack(single) == np.stack(batch)))


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = sys.argv[1] if len(sys.argv) > 1 else scratch
        if path == scratch:
            build_random_model(Path(scratch))
        backend = FACTORY.load({"model_path": path, "tf32": False}, "cpu")
        measure(backend, 2, 1, rng)
        print("seconds  batch  speed-up  equal codes")
        for seconds in SECONDS:
            for count in BATCHES:
                gain, equal = measure(backend, seconds, count, rng)
                print(f"{seconds:7d}  {count:5d}  {gain:8.2f}  {equal:11.6f}", flush=True)


if __name__ == "__main__":
    main()
