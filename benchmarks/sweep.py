"""What a worker costs beside its model, and how that grows: the CPU figures of docs/performance.md, in a few minutes.

The model is one that costs nothing, with the rates, fragments and lines of higgs (free_codec.py). Figures are seconds of
audio per second of CPU, which other programs on the machine disturb least; those by the clock are the best of eight.

    python -m benchmarks.sweep [--out benchmarks/results/cpu.json] [--small]
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import fill
from benchmarks.common import encoded, speech
from benchmarks.free_codec import FreeCodec, free_spec
from benchmarks.ways import pipeline, write_tar
from jobs.commands import command_parser

__all__ = ["FORMATS", "RESULTS", "decode_threads", "encoded_as", "main"]

RESULTS = Path(__file__).resolve().parent / "results"
FORMATS = {"FLAC": "FLAC, 16 kHz mono", "MP3": "MP3, 44.1 kHz stereo", "Opus": "Opus, 48 kHz mono"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    clips: int
    """Of 8 s, for each format."""
    rounds: int
    clock_rounds: int
    """The same where the clock is looked at: others on the machine leave it quiet moments at most."""
    threads: Sequence[int]
    workers: Sequence[int]
    lanes: Sequence[int]
    lengths: Sequence[float]
    """Seconds of a clip."""
    counts: Sequence[int]
    """Clips of a tar."""
    least_audio: float
    """Seconds of audio for each length, at least."""


FULL = Sizes(
    clips=90,
    rounds=3,
    clock_rounds=8,
    threads=(1, 2, 4),
    workers=(1, 2),
    lanes=(1, 2, 4, 8, 16, 32, 64),
    lengths=(0.5, 2, 8, 30, 120, 600, 3600, 10800),
    counts=(10, 100, 1000, 10_000, 100_000),
    least_audio=900.0,
)
SMALL = Sizes(
    clips=2,
    rounds=1,
    clock_rounds=1,
    threads=(1, 2),
    workers=(1, 2),
    lanes=(1, 4),
    lengths=(0.5, 2.0),
    counts=(10, 20),
    least_audio=2.0,
)


def encoded_as(name: str, seconds: float, offset: float = 0.0) -> bytes:
    """The bytes of a file of one of FORMATS, of speech."""
    rate = {"FLAC": 16000, "MP3": 44100, "Opus": 48000}[name]
    wave = speech(rate, offset + seconds)[int(offset * rate) :]
    if name == "FLAC":
        return encoded(wave, rate, "flac")
    file = io.BytesIO()
    if name == "MP3":
        soundfile.write(file, np.stack([wave, 0.8 * wave], axis=1), rate, format="MP3")
    else:
        soundfile.write(file, wave, rate, format="OGG", subtype="OPUS")
    return file.getvalue()


def run_once(tar: Path, threads: int) -> Row:
    """One worker over one tar."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(pipeline(free_spec(), FreeCodec(), tar, Path(folder), "cpu", threads))


def best(tar: Path, threads: int, rounds: int) -> Row:
    """The best of some rounds: by wall-clock time, and by CPU seconds."""
    found = [run_once(tar, threads) for _ in range(rounds)]
    audio = found[0]["audio_seconds"]
    return {
        "clips": found[0]["clips"],
        "audio_seconds": audio,
        "rate": max(row["rate"] for row in found),
        "per_cpu_second": audio / min(row["cpu_seconds"] for row in found),
    }


def decode_threads(folder: Path, clips: int, rounds: int, threads: Sequence[int]) -> Iterator[Row]:
    """By format and number of decode threads, clips of 8 s."""
    for name in FORMATS:
        files = [encoded_as(name, 8.0, 1.7 * number) for number in range(min(clips, 30))]
        tar = write_tar(folder / f"{name}.tar", files, -(-clips // len(files)))
        for count in threads:
            yield {"format": name, "threads": count, **best(tar, count, rounds)}


def by_workers(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Worker processes side by side, each with a tar of its own, begun at one moment; one decode thread each."""
    files = [encoded_as("FLAC", 8.0, 1.7 * number) for number in range(min(sizes.clips, 30))]
    tar = write_tar(folder / "workers.tar", files, -(-sizes.clips // len(files)))
    audio = 8.0 * len(files) * -(-sizes.clips // len(files))
    spawn = multiprocessing.get_context("spawn")
    for count in sizes.workers:
        seconds = []
        for _ in range(sizes.clock_rounds):
            begin, end = spawn.Barrier(count + 1), spawn.Barrier(count + 1)
            processes = [spawn.Process(target=_work, args=(tar, begin, end)) for _ in range(count)]
            for process in processes:
                process.start()
            begin.wait()
            started = time.perf_counter()
            end.wait()
            seconds.append(time.perf_counter() - started)
            for process in processes:
                process.join()
        yield {"workers": count, "rate": count * audio / min(seconds)}


def _work(tar: Path, begin: Any, end: Any) -> None:  # noqa: ANN401 - barriers of a context
    begin.wait()
    run_once(tar, 1)
    end.wait()


def by_lanes(sizes: Sizes) -> Iterator[Row]:
    """Virtual time (fill.py): what is padding, and what is empty, of tars of 10,000 clips and of 300."""
    for lanes in sizes.lanes:
        for name, (tars, _) in fill.workloads().items():
            found = fill.simulate(tars, fill.Setting(lanes=lanes))
            whole = found.real + found.padded + found.empty
            yield {"lanes": lanes, "tars": name, "padding": found.padded / whole, "empty": found.empty / whole}


def by_length(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """FLAC clips of one length."""
    for seconds in sizes.lengths:
        count = max(1, min(1000, int(sizes.least_audio / seconds)))
        files = [encoded_as("FLAC", seconds, 1.7 * number) for number in range(min(count, 10))]
        tar = write_tar(folder / "length.tar", files, -(-count // len(files)))
        yield {"seconds": seconds, **best(tar, 1, sizes.rounds if seconds < 1000 else 1)}


def by_count(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """FLAC clips of 1 s, in one tar."""
    files = [encoded_as("FLAC", 1.0, 1.7 * number) for number in range(10)]
    for count in sizes.counts:
        tar = write_tar(folder / "count.tar", files, count // len(files))
        yield best(tar, 1, sizes.rounds if count <= 1000 else 1)


def machine() -> Row:
    """What the figures were made on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "cpu.json")
    parser.add_argument("--small", action="store_true", help="next to nothing, to try it out")
    asked = parser.parse_args()
    sizes = SMALL if asked.small else FULL
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "threads": lambda: decode_threads(folder, sizes.clips, sizes.clock_rounds, sizes.threads),
            "workers": lambda: by_workers(folder, sizes),
            "lanes": lambda: by_lanes(sizes),
            "lengths": lambda: by_length(folder, sizes),
            "counts": lambda: by_count(folder, sizes),
        }
        for part, measure in parts.items():
            results[part] = []
            for row in measure():
                results[part].append({key: _rounded(value) for key, value in row.items()})
                print(part, results[part][-1], flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever a row holds
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
