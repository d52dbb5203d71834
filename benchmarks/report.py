"""tools.report of a run of 100,000 tars with histograms of tokens: seconds of CPU, memory, and the size of the page.

The run is simulated: 100 nodes of four GPUs, tasks that die and are preempted, a broken node. python -m benchmarks.report
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from audio_tokenizers.base import Field
from jobs.commands import command_parser
from jobs.sequence_counter import SequenceCounter
from jobs.token_statistics import SequenceStatistics, TokenStatistics

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
CPU_SECONDS, PAGE_BYTES = 20.0, 3_000_000
CODEBOOKS, CODES, FRAMES, RATE = 8, 1024, 250_000, 25
"""Of a tar: 10,000 s of a codec like Higgs."""


def statistics() -> TokenStatistics:
    """Histograms as a tar of speech has them: every code occurs, some a hundred times as often as others."""
    source = np.random.default_rng(1)
    weights = source.lognormal(0, 1, CODES)
    codes = source.choice(CODES, (CODEBOOKS, FRAMES), p=weights / weights.sum())
    counter = SequenceCounter(
        Field(name="tokens", form="codes", width=CODEBOOKS, codebook_size=CODES, samples_per_item=24_000 / RATE), 24_000
    )
    counter.add(codes, 0, "a.flac")
    sequence = SequenceStatistics.of(counter, 24_000)
    return TokenStatistics(clips=1000, audio_seconds=FRAMES / RATE, sequences={"tokens": sequence})


def main(tars: int) -> int:
    sys.path.append(str(ROOT / "tests"))
    from support.reported_runs import SimulatedRun

    with tempfile.TemporaryDirectory() as name:
        output, page = Path(name) / "tokens", Path(name) / "report.html"
        run = SimulatedRun(output, tars, nodes=100, tars_per_task=1, trouble=0.002, lines=False, tokens=statistics())
        run.write()
        manifest = next((output / ".run" / "manifests").iterdir()).stat().st_size
        command = [sys.executable, "-m", "tools.report", "--output-dir", str(output), "--html", str(page)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": IMPORTS}, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = page.stat().st_size
    met = seconds <= CPU_SECONDS and size <= PAGE_BYTES
    print(
        f"{tars:,} tars with manifests of {manifest:,} bytes: {seconds:.1f} s of CPU (goal {CPU_SECONDS:g}), "
        f"{after.ru_maxrss / 1000:.0f} MB of memory, a page of {size / 1e6:.2f} MB (goal {PAGE_BYTES / 1e6:g}) "
        f"{'ok' if met else 'ABOVE GOAL'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--tars", type=int, default=100_000)
    sys.exit(main(parser.parse_args().tars))
