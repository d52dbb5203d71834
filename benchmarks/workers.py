"""Two workers on two cores against one: wall time of the same tars. python -m benchmarks.workers

Each candidate is a set of worker processes that are started together and told to begin at one moment, so that what is
compared is work and not the start of Python.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import pack, report
from jobs.commands import command_parser
from jobs.progress import ProgressFile
from jobs.signals import StopFlag
from jobs.spec import TokenizeSpec, make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask
from jobs.worker import run_tars

GOAL = 1.8
TARS, CLIPS, SECONDS, ROUNDS = 4, 300, 10.0, 5


def work(tars: Sequence[Path], spec: TokenizeSpec, tokens: Path, begin: object) -> None:
    """One worker process."""
    tasks = [TarTask(str(tar), TarPaths.stem(tar), tar.stat().st_size) for tar in tars]
    begin.wait()  # type: ignore[attr-defined]
    run_tars(tasks, spec, tokens, device="cpu", stop=StopFlag(), reports=ProgressFile(None))


def seconds_for(workers: int, tars: Sequence[Path], spec: TokenizeSpec, tokens: Path) -> float:
    """Wall seconds from the common start until the last worker has ended."""
    shutil.rmtree(tokens, ignore_errors=True)
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(workers + 1)
    processes = [spawn.Process(target=work, args=(tars[n::workers], spec, tokens, begin)) for n in range(workers)]
    for process in processes:
        process.start()
    begin.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - started


def main() -> int:
    spec = make_spec("mulaw", device="cpu")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        tars = [Path(folder) / f"{number}.tar" for number in range(TARS)]
        for tar in tars:
            pack(tar, CLIPS, SECONDS, 16000, ("flac", "mp3"))
        for number in range(ROUNDS + 1):
            one = seconds_for(1, tars, spec, Path(folder) / "one")
            two = seconds_for(2, tars, spec, Path(folder) / "two")
            if number:
                ratios.append(one / two)
    return 0 if report("two workers, one worker's time / two workers' time", ratios, GOAL) else 1


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
