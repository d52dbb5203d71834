"""How much of the time the device works: one worker with a backend that only sleeps, against max(decoding, device).

Decoding is timed alone, in one thread, in the same round; then the device is made as slow, ten times slower, and four times
faster. The sleeping device gives made-up codes. python -m benchmarks.overlap [ROUNDS]
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audio_tokenizers.base import Batching, Codes, Waveform
from audio_tokenizers.mulaw import FACTORY, SAMPLE_RATE
from benchmarks.common import pack, report
from jobs.audio import decode, resample
from jobs.commands import command_parser
from jobs.conveyor import Feeding
from jobs.spec import make_spec
from jobs.tar_paths import TarPaths
from jobs.tokenize import tokenize_tar

CLIPS, SECONDS = 400, 10.0
CODE_RATE = 100
"""As few codes per second as a codec has, so that writing them costs what it costs there."""


class Sleeper:
    """A device that needs so long per second of audio."""

    def __init__(self, seconds_per_second: float) -> None:
        hop = SAMPLE_RATE // CODE_RATE
        self.info = dataclasses.replace(FACTORY.describe({}, "cpu"), hop_length=hop, batching=Batching.SINGLE)
        self._pace = seconds_per_second
        self.slept = 0.0

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """Zeros, as many as a codec's frames, after a while."""
        for wave in waves:
            started = time.perf_counter()
            time.sleep(len(wave) / SAMPLE_RATE * self._pace)
            self.slept += time.perf_counter() - started
        return [np.zeros((1, -(-len(wave) // self.info.hop_length)), np.uint8) for wave in waves]


def decode_all(tar: Path) -> tuple[float, float]:
    """(seconds that it takes, seconds of audio), in this thread."""
    started, samples = time.perf_counter(), 0
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            blocks = decode(io.BytesIO(file.read()), mono="mean")
            samples += sum(len(wave) for wave in resample(blocks, SAMPLE_RATE))
    return time.perf_counter() - started, samples / SAMPLE_RATE


def run(tar: Path, output: Path, pace: float, threads: int) -> tuple[float, float]:
    """(seconds of the whole, seconds that the device slept)."""
    backend = Sleeper(pace)
    spec = make_spec("mulaw", device="cpu")
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    tokenize_tar(tar, TarPaths(output, "speech"), spec, backend, feeding=Feeding(decode_threads=threads))
    return time.perf_counter() - started, backend.slept


def main(rounds: int) -> int:
    equal, slow, one, two = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        tar, output = Path(folder) / "speech.tar", Path(folder) / "tokens"
        pack(tar, CLIPS, SECONDS, 44100, ("flac", "mp3"))
        for number in range(rounds + 1):
            decoding, audio = decode_all(tar)
            pace = decoding / audio
            wall, slept = run(tar, output, pace, threads=1)
            equal.append(max(decoding, slept) / wall)
            if number == 0:
                continue  # a round to warm up
            if number <= 2:
                wall, slept = run(tar, output, 10 * pace, threads=1)
                slow.append(slept / wall)
            one.append(run(tar, output, pace / 4, threads=1)[0])
            two.append(run(tar, output, pace / 4, threads=2)[0])
    met = report("device as slow as decoding, one worker, max(decoding, device) / wall", equal[1:], 0.90)
    met &= report("device ten times slower, device / wall", slow, 0.97)
    gain = [before / after for before, after in zip(one, two, strict=True)]
    met &= report("device four times faster, two decode threads against one", gain, 1.7)
    print(f"(decoding alone {statistics.median(one):.1f} s at {audio / statistics.median(one):.0f} x real time)")
    return 0 if met else 1


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    sys.exit(main(parser.parse_args().rounds))
