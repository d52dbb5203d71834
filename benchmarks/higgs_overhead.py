"""What the framework costs beside the model: `higgs` at full size on the CPU, against a bare loop of the same `encode`.

The bare loop gets clips that are decoded already, and keeps nothing. python -m benchmarks.higgs_overhead [MODEL_PATH]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from audio_tokenizers.base import takes_waves
from benchmarks.common import alternate, pack, report
from benchmarks.models import build_higgs
from jobs.audio import decode, resample
from jobs.commands import command_parser
from jobs.spec import make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_reader import TarReader
from jobs.tokenize import tokenize_tar
from jobs.worker import load_backend

GOAL = 0.97
CLIPS, SECONDS, ROUNDS = 8, 5.0, 5


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument(
        "model_path", nargs="?", type=Path, help="a directory of the Higgs tokenizer; default: random weights"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model_path or Path(folder) / "model"
        if given.model_path is None:
            build_higgs(model)
        tar = Path(folder) / "speech.tar"
        pack(tar, CLIPS, SECONDS, 16000, ("flac", "mp3"))
        spec = make_spec("higgs", device="cpu", options={"model_path": str(model)})
        backend = load_backend(spec, "cpu")
        assert takes_waves(backend)
        with TarReader(tar) as reader:
            waves = []
            for clip in reader:
                assert clip.audio is not None
                waves.append(np.concatenate(list(resample(decode(clip.audio, mono="mean"), spec.sample_rate))))
        tokens = Path(folder) / "tokens"

        def bare() -> None:
            for wave in waves:
                backend.encode([wave])

        def pipeline() -> None:
            shutil.rmtree(tokens, ignore_errors=True)
            result = tokenize_tar(tar, TarPaths(tokens, "speech"), spec, backend)
            assert (result.manifest.clips, result.manifest.errors) == (CLIPS, {})

        times = alternate({"bare": bare, "pipeline": pipeline}, ROUNDS)
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["pipeline"], strict=True)]
    return 0 if report("higgs at full size on the CPU, pipeline / bare encode", ratios, GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
