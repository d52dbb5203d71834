"""How fast --check-validity reads committed Higgs JSONL on one core. python -m benchmarks.validity"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from audio_tokenizers.base import Field
from benchmarks.common import report
from jobs.commands import command_parser
from jobs.ledger import Ledger
from jobs.records import TokenRecord, codes_to_json, encode_record
from jobs.spec import TokenizeSpec, make_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import InputIdentity
from jobs.validation import validate_file

GOAL_MB_PER_S = 150
RECORDS, FRAMES, ROUNDS = 20_000, 250, 5


def higgs_like_spec() -> TokenizeSpec:
    """A spec with the shape of Higgs tokens; no weights are needed to read them."""
    spec = make_spec("mulaw", device="cpu")
    return msgspec.structs.replace(
        spec,
        backend="higgs",
        sample_rate=24000,
        hop_length=960,
        fields=(Field(name="tokens", form="codes", width=8, codebook_size=1024, samples_per_item=960),),
        min_samples=632,
    )


def main() -> int:
    spec = higgs_like_spec()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = TarPaths(Path(folder), "speech")
        ledger = Ledger.take(paths, InputIdentity("speech.tar", 1, 1), spec.fingerprint, spec.fields)
        for number in range(RECORDS):
            codes = rng.integers(0, 1024, (8, FRAMES), dtype=np.int16)
            record = TokenRecord(
                tar_file="/data/speech.tar",
                audio_file=f"speaker/{number:06}.flac",
                num_samples=FRAMES * 960,
                sample_rate=24000,
                values={"tokens": msgspec.Raw(codes_to_json(codes)), "token_shape": msgspec.Raw(b"[8,%d]" % FRAMES)},
                text="and mister john dashwood had then leisure to consider how much there might be",
            )
            ledger.append(record, [encode_record(record)])
        manifest = ledger.commit()
        megabytes = manifest.output_bytes / 1e6
        rates = []
        for _ in range(ROUNDS):
            started = time.process_time()
            fault = validate_file(paths.committed, manifest, spec).fault
            rates.append(megabytes / (time.process_time() - started))
            if fault is not None:
                raise SystemExit(fault)
    met = report(f"--check-validity, MB/s per core over {megabytes:.0f} MB of Higgs JSONL", rates, GOAL_MB_PER_S)
    return 0 if met else 1


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
