"""A worker process for tests to kill: mu-law with a pause per call, over a list of tars.

python slow_worker.py OUTPUT_DIR PAUSE_SECONDS TAR...

With LONG_CLIPS in its environment every clip of several fragments is long, and each of its fragments is kept as it comes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from audio_tokenizers import mulaw
from audio_tokenizers.base import Codes, Waveform
from jobs import clip_decoder, clip_journal
from jobs.progress import ProgressFile
from jobs.signals import StopFlag
from jobs.spec import make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.worker import run_tars


def main(output: Path, pause: float, tars: list[Path]) -> None:
    """Tokenize slowly, until killed or done."""
    quick = mulaw.MuLaw.encode

    def encode(self: mulaw.MuLaw, waves: Sequence[Waveform]) -> list[Codes]:
        time.sleep(pause)
        return quick(self, waves)

    mulaw.MuLaw.encode = encode  # type: ignore[method-assign]
    if "LONG_CLIPS" in os.environ:
        clip_decoder.LONG_CLIP_SECONDS = 0.0  # type: ignore[attr-defined]
        clip_journal.KEEP_SECONDS = 0.0
    tasks = [TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size) for tar in tars]
    stop = StopFlag()
    with stop.on_signals():
        reports = ProgressFile(None)
        run_tars(tasks, make_spec("mulaw", device="cpu"), output, device="cpu", stop=stop, reports=reports)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), [Path(tar) for tar in sys.argv[3:]])
