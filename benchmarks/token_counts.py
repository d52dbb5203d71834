"""What counting tokens costs: its share of a worker's CPU seconds, beside a model that costs nothing.

A real model only makes the share smaller. The worker reads 16 kHz FLAC; counting is timed by the thread that does it.
python -m benchmarks.token_counts [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from audio_tokenizers.base import FrameBackend
from audio_tokenizers.mulaw import FACTORY
from benchmarks.common import pack
from benchmarks.free_codec import FreeCodec, free_spec
from jobs import ledger
from jobs.commands import command_parser
from jobs.records import Record
from jobs.spec import TokenizeSpec, make_spec
from jobs.tar_paths import TarPaths
from jobs.token_counter import ClipTokens, TokenCounter
from jobs.token_statistics import TokenStatistics, read_statistics
from jobs.tokenize import tokenize_tar
from tools.checking.token_totals import Device, TokenTotals

CLIPS, SECONDS, GOAL = 1000, 10.0, 0.01
MANIFESTS = 2000


class TimedCounter(TokenCounter):
    """Adds up the CPU seconds of counting, and of packing the histograms."""

    seconds = 0.0

    def add(self, record: Record, tokens: Callable[[], ClipTokens] | None = None) -> None:
        """Timed."""
        started = time.thread_time()
        super().add(record, tokens)
        TimedCounter.seconds += time.thread_time() - started

    def statistics(self) -> TokenStatistics:
        """Timed."""
        started = time.thread_time()
        found = super().statistics()
        TimedCounter.seconds += time.thread_time() - started
        return found


def measure(tar: Path, spec: TokenizeSpec, backend: FrameBackend) -> tuple[float, float]:
    """(seconds of counting, CPU seconds of the worker) for a tar."""
    TimedCounter.seconds, started = 0.0, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tokenize_tar(tar, TarPaths(Path(folder), "speech"), spec, backend)
    return TimedCounter.seconds, time.process_time() - started


def adding_up(tar: Path) -> float:
    """CPU seconds per tar of `check_progress --tokens`, for manifests like that of `tar`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = TarPaths(Path(folder), "speech")
        tokenize_tar(tar, paths, free_spec(), FreeCodec())
        totals, started = TokenTotals(), time.process_time()
        for number in range(MANIFESTS):
            totals.add(str(number), read_statistics(paths.manifest), Device("n1", "cpu", ""))
        return (time.process_time() - started) / MANIFESTS


def main(rounds: int) -> int:
    ledger.TokenCounter = TimedCounter  # type: ignore[attr-defined]
    met = True
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "speech.tar"
        pack(tar, CLIPS, SECONDS, 16000, ("flac",))
        for name, spec, backend in (
            ("8 codebooks at 25 Hz, a model that costs nothing", free_spec(), FreeCodec()),
            ("mulaw, 8000 tokens a second", make_spec("mulaw", device="cpu"), FACTORY.load({}, "cpu")),
        ):
            measure(tar, spec, backend)
            found = [measure(tar, spec, backend) for _ in range(rounds)]
            shares = [counting / whole for counting, whole in found]
            share, audio = statistics.median(shares), CLIPS * SECONDS
            each = statistics.median(counting for counting, _ in found) / audio * 1e6
            print(
                f"{name}: counting takes {share:.2%} of the worker's CPU seconds ({min(shares):.2%} to {max(shares):.2%} in "
                f"{rounds} rounds; goal {GOAL:.0%}), {each:.1f} us per second of audio"
            )
            met &= share <= GOAL
        print(f"check_progress --tokens: {adding_up(tar) * 1e3:.2f} ms of CPU per tar")
    return 0 if met else 1


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    sys.exit(main(parser.parse_args().rounds))
