"""What the Higgs backend gains from equal-length batches on the CPU, and whether they give the tokens of single clips.

Run from the repository root: `python -m benchmarks.higgs_batching [MODEL_PATH]`. Without weights at hand it makes a random
model of the published size. It decides what `HiggsFactory.describe` declares.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from audio_tokenizers.base import FrameBackend, Waveform
from audio_tokenizers.higgs.backend import FACTORY
from benchmarks.models import build_higgs
from jobs.commands import command_parser

SECONDS = (2, 5, 15)
BATCHES = (2, 4, 8)


def measure(backend: FrameBackend, seconds: int, count: int, rng: np.random.Generator) -> tuple[float, float]:
    """(time of `count` single clips over that of one batch, fraction of equal codes)."""
    waves: list[Waveform] = list(rng.standard_normal((count, seconds * 24000)).astype(np.float32) * 0.1)
    start = time.perf_counter()
    single = [backend.encode([wave])[0] for wave in waves]
    middle = time.perf_counter()
    batch = backend.encode(waves)
    end = time.perf_counter()
    return (middle - start) / (end - middle), float(np.mean(np.stack(single) == np.stack(batch)))


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("model_path", nargs="?", help="a directory of the Higgs tokenizer; default: random weights")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = given.model_path or scratch
        if path == scratch:
            build_higgs(Path(scratch))
        backend = FACTORY.load({"model_path": path, "tf32": False}, "cpu")
        measure(backend, 2, 1, rng)
        print("seconds  batch  speed-up  equal codes")
        for seconds in SECONDS:
            for count in BATCHES:
                gain, equal = measure(backend, seconds, count, rng)
                print(f"{seconds:7d}  {count:5d}  {gain:8.2f}  {equal:11.6f}", flush=True)


if __name__ == "__main__":
    main()
