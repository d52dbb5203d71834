"""The hf backend at the published sizes with random weights on the CPU, against transformers' documented way: its feature
extractor, and the model on what that gives, one clip at a time.

python -m benchmarks.hf_speed [--codec mimi|dac|encodec|xcodec] [--seconds 5] [--clips 4] [--rounds 5]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from audio_tokenizers.hf.backend import FACTORY
from benchmarks.common import alternate, report, speech
from benchmarks.models import build_hf
from jobs.commands import command_parser

GOAL = 1.0
CODECS = ("mimi", "dac", "encodec", "xcodec")


def options(directory: Path, codec: str) -> dict[str, Any]:
    bandwidth = 6.0 if codec == "encodec" else None
    return {"model_path": str(directory), "num_quantizers": None, "bandwidth": bandwidth, "tf32": False}


def measure(codec: str, seconds: float, clips: int, rounds: int) -> bool:
    import numpy as np
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        build_hf(codec, directory)
        backend = FACTORY.load(options(directory, codec), "cpu")
        model = AutoModel.from_pretrained(directory).eval()
        extractor = AutoFeatureExtractor.from_pretrained(directory)
    rate = backend.info.sample_rate
    wave = speech(rate, seconds * clips + clips)
    waves = [wave[number * rate :][: int(seconds * rate) + 37 * number] for number in range(clips)]
    arguments = {"bandwidth": 6.0} if codec == "encodec" else {}

    def upstream() -> list[Any]:
        found = []
        with torch.inference_mode():
            for clip in waves:
                inputs = extractor(raw_audio=clip, sampling_rate=rate, return_tensors="pt")
                mask = {"padding_mask": inputs["padding_mask"]} if codec in ("mimi", "encodec") else {}
                found.append(model.encode(inputs["input_values"], **mask, **arguments).audio_codes)
        return found

    def ours() -> list[Any]:
        return [backend.encode([clip])[0] for clip in waves]

    for theirs, codes in zip(upstream(), ours(), strict=True):
        assert np.array_equal(theirs.reshape(codes.shape).numpy(), codes), "the tokens differ"
    times = alternate({"upstream": upstream, "ours": ours}, rounds)
    audio = sum(map(len, waves)) / rate
    speeds = {name: audio / statistics.median(found) for name, found in times.items()}
    words = ", ".join(f"{name} {speed:.2f} s/s" for name, speed in speeds.items())
    ratios = [one / other for one, other in zip(times["upstream"], times["ours"], strict=True)]
    return report(f"hf {codec} on the CPU ({words}), upstream / ours in time", ratios, GOAL)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--codec", choices=CODECS, action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    met = [measure(codec, asked.seconds, asked.clips, asked.rounds) for codec in asked.codec or CODECS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
