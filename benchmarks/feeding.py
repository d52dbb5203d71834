"""What the pipeline costs beside decoding: `mulaw` in one worker, against a bare loop over the same tar.

The bare loop is tarfile, soundfile, soxr and the same mu-law, with nothing written. python -m benchmarks.feeding
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import soundfile
import soxr

from audio_tokenizers.mulaw import mu_law_codes
from benchmarks.common import alternate, pack, report
from jobs.commands import command_parser
from jobs.progress import ProgressFile
from jobs.signals import StopFlag
from jobs.spec import make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.worker import run_tars

GOAL = 0.80
CLIPS, SECONDS, ROUNDS = 400, 10.0, 7


def bare_loop(tar: Path) -> None:
    """Read, decode, resample, encode; keep nothing."""
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            wave, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32")
            mu_law_codes(soxr.resample(wave, rate, 8000))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "speech.tar"
        pack(tar, CLIPS, SECONDS, 16000, ("flac", "mp3"))
        spec = make_spec("mulaw", device="cpu")
        tokens = Path(folder) / "tokens"

        def pipeline() -> None:
            shutil.rmtree(tokens, ignore_errors=True)
            task = TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size)
            run_tars([task], spec, tokens, device="cpu", stop=StopFlag(), reports=ProgressFile(None))

        times = alternate({"bare": lambda: bare_loop(tar), "pipeline": pipeline}, ROUNDS)
    ratios = [bare / ours for bare, ours in zip(times["bare"], times["pipeline"], strict=True)]
    return 0 if report("feeding, mulaw on 16 kHz FLAC and MP3, pipeline / bare loop", ratios, GOAL) else 1


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
