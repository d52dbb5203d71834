"""Makes golden/bicodec.npz: the tokens that Spark-TTS's own code gives for the tiny checkpoint of tiny_bicodec.py.

    .venv/bin/python tests/support/make_bicodec_golden.py SPARK_TTS RWKVTTS

with checkouts of github.com/SparkAudio/Spark-TTS at 2f1ea90 and github.com/yynil/RWKVTTS at 0d4a25f, unmodified, on one
thread of a CPU (a second one may round otherwise), with torch 2.13.0, torchaudio 2.11.0, transformers 5.23.0, numpy 2.4.6,
soxr 1.1.0, soundfile 0.14.0, and omegaconf 2.3.1, einops 0.8.2 and einx 0.4.3, which only upstream needs. Cases without
volume normalisation are those of RWKVTTS's fork, which skips it for arrays; they are resampled as all the others are, where
RWKVTTS's script takes torchaudio's filter.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.golden_audio import Pcm, pcm, silence, square
from support.tiny_bicodec import build_spark_tts, weights_digest

GOLDEN = Path(__file__).parents[1] / "audio_tokenizers" / "golden" / "bicodec.npz"


@dataclass(frozen=True)
class Case:
    """One clip."""

    source: str
    """speech, silence or square."""
    samples: int
    rate: int = 16000
    start: int = 0
    """Of the speech."""
    halvings: int = 0
    """Bits by which it is softer."""
    stereo: bool = False
    volume_normalize: bool = True

    def pcm(self) -> Pcm:
        """The first channel, int16 [samples]."""
        if self.source == "speech":
            return pcm(self.samples, self.start) >> self.halvings
        return (silence if self.source == "silence" else square)(self.samples)


LENGTHS = {
    16000: [
        *(400, 401, 479, 480, 481, 639, 640, 641, 719, 720, 721, 3199, 3200, 3201, 15999, 16000, 16001),
        *(32000, 48000, 95999, 96000, 96001, 480000),
    ],
    8000: [200, 240, 12345, 48000, 48001],
    24000: [600, 1080, 24001, 144000, 144001],
    44100: [1103, 20000, 44101, 264600, 264601],
    48000: [1200, 2157, 48001, 288000, 288001],
}


def cases() -> Iterator[Case]:
    """All clips, in the order of the golden file; speech is another piece each time."""
    number = 0
    for rate, lengths in LENGTHS.items():
        for samples in lengths:
            number += 1
            yield Case("speech", samples, rate, start=6011 * number)
    yield from (Case("silence", samples, rate) for samples, rate in ((400, 16000), (16000, 16000), (44100, 44100)))
    yield from (
        Case("square", samples, rate) for samples, rate in ((400, 16000), (20000, 16000), (24000, 8000), (72000, 48000))
    )
    for number, halvings in enumerate((3, 4, 5, 7, 12)):
        yield Case("speech", 20000 + 1600 * number, (16000, 44100)[number % 2], start=9001 * number, halvings=halvings)
    # A handful of audible samples: no volume is taken from ten or fewer.
    yield from (Case("speech", samples, start=31000, halvings=5) for samples in (400, 700))
    yield from (Case("speech", 30000, rate, start=rate, stereo=True) for rate in (16000, 24000, 44100))
    off: list[tuple[int, int, int]] = [
        (400, 16000, 0),
        (32001, 16000, 0),
        (95999, 16000, 0),
        (96001, 16000, 0),
        (40000, 16000, 8),
    ]
    off += [(12345, 8000, 0), (50000, 24000, 0), (70000, 44100, 2), (90000, 48000, 0)]
    for number, (samples, rate, halvings) in enumerate(off):
        yield Case("speech", samples, rate, start=11003 * number, halvings=halvings, volume_normalize=False)
    yield Case("silence", 16000, volume_normalize=False)


def encode(checkout: Path, model: Path, wanted: list[Case]) -> Iterator[tuple[Any, Any]]:
    """(global tokens, semantic tokens) of each case, by the package `sparktts` in `checkout`."""
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "sparktts"]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    from sparktts.models.audio_tokenizer import BiCodecTokenizer
    from sparktts.utils.audio import load_audio

    sys.path.remove(str(checkout))
    torch.set_num_threads(1)
    tokenizer = BiCodecTokenizer(str(model), device=torch.device("cpu"))
    for case in wanted:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            first = case.pcm()
            soundfile.write(file.name, np.stack([first, first[::-1]], axis=1) if case.stereo else first, case.rate, "PCM_16")
            clip = file.name if case.volume_normalize else load_audio(file.name, 16000, volume_normalize=False)
            found = tokenizer.tokenize(clip)
        yield tuple(tokens.flatten().numpy().astype(np.int16) for tokens in found)


def main() -> None:
    spark_tts, rwkvtts = map(Path, sys.argv[1:])
    wanted = list(cases())
    found: dict[Case, tuple[Any, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = build_spark_tts(Path(folder))
        digest = weights_digest(model)
        for checkout, normalised in ((spark_tts, True), (rwkvtts / "third_party", False)):
            part = [case for case in wanted if case.volume_normalize == normalised]
            found.update(zip(part, encode(checkout, model, part), strict=True))
    np.savez_compressed(
        GOLDEN,
        weights_sha256=digest,
        cases=np.array([json.dumps(asdict(case)) for case in wanted]),
        global_tokens=np.stack([found[case][0] for case in wanted]),
        semantic_tokens=np.concatenate([found[case][1] for case in wanted]),
        semantic_counts=np.array([len(found[case][1]) for case in wanted]),
    )
    print(f"{GOLDEN}: {len(wanted)} cases, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
