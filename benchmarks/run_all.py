"""All benchmarks, one after another, each in a process of its own. python -m benchmarks.run_all"""

from __future__ import annotations

import subprocess
import sys

from jobs.commands import command_parser

BENCHMARKS = (
    *("feeding", "compressed", "overlap", "workers", "validity", "long_audio", "scale", "campaign", "fill", "packing"),
    "token_counts",
    "report",
    *("merge_export", "higgs_overhead", "higgs_batching", "step_audio_speed", "cosyvoice_s3_speed", "bicodec_speed"),
    *("hf_speed", "whisper_features_speed", "agreement --tiny"),
)


def main() -> int:
    failed = []
    for name in BENCHMARKS:
        print(f"-- benchmarks.{name}", flush=True)
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name.split()[0]}", *name.split()[1:]], check=False
        ).returncode:
            failed.append(name)
    print(f"below goal: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
