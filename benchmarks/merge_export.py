"""MB/s of JSONL per core, and peak memory, of tools.merge and tools.export. python -m benchmarks.merge_export

Each runs as a process with --workers 1 over a run of Higgs-like JSONL: one committed file, many times under other names. CPU
seconds are those of the whole process, its start included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from audio_tokenizers.base import Field
from benchmarks.common import report
from benchmarks.validity import FRAMES, higgs_like_spec
from jobs.commands import command_parser
from jobs.ledger import Ledger
from jobs.records import TokenRecord, codes_to_json, encode_record
from jobs.spec import TokenizeSpec, _fingerprint, freeze_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import InputIdentity

GOAL_MB_PER_S = 150
GOAL_PEAK_MB = 500
FILE_RECORDS = 32_000
"""A file of 260 MB."""
COMMANDS = {
    "merge to .jsonl": ("tools.merge", "--output", "all.jsonl"),
    "merge to .jsonl.gz": ("tools.merge", "--output", "all.jsonl.gz"),
    "merge to .jsonl.zst": ("tools.merge", "--output", "all.jsonl.zst"),
    "export to Parquet": ("tools.export", "--to", "parquet", "--output", "parquet"),
    "export to a Hugging Face data set": ("tools.export", "--to", "hf", "--output", "hf"),
    "export to WebDataset, without audio": ("tools.export", "--to", "webdataset", "--output", "webdataset"),
}


def committed_file(paths: TarPaths, spec: TokenizeSpec) -> None:
    rng = np.random.default_rng(0)
    ledger = Ledger.take(paths, InputIdentity(f"/data/{paths.name}.tar", 1, 1), spec.fingerprint, spec.fields)
    for number in range(FILE_RECORDS):
        codes = rng.integers(0, 1024, (8, FRAMES), dtype=np.int16)
        record = TokenRecord(
            tar_file=f"/data/{paths.name}.tar",
            audio_file=f"speaker/{number:06}.flac",
            num_samples=FRAMES * spec.hop_length,
            sample_rate=spec.sample_rate,
            values={"tokens": msgspec.Raw(codes_to_json(codes)), "token_shape": msgspec.Raw(b"[8,%d]" % FRAMES)},
            text="and mister john dashwood had then leisure to consider how much there might be",
        )
        ledger.append(record, [encode_record(record)])
    ledger.commit()


def make_run(run: Path, gigabytes: float) -> int:
    """A finished run of about that size; returns its bytes of JSONL."""
    spec = higgs_like_spec()
    fields = msgspec.convert(msgspec.to_builtins(spec.fields), tuple[Field, ...])  # as they come back from the file
    spec = msgspec.structs.replace(spec, fields=fields)
    spec = msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))
    first = TarPaths(run, "000000")
    committed_file(first, spec)
    size = first.committed.stat().st_size
    names = [f"{number:06}" for number in range(max(round(gigabytes * 1e9 / size), 2))]
    for name in names[1:]:
        other = TarPaths(run, name)
        os.link(first.committed, other.committed)
        shutil.copy(first.manifest, other.manifest)
    freeze_spec(run, spec)
    (run / ".run" / "tars.txt").write_text("".join(f"/data/{name}.tar\t{name}\n" for name in names))
    return size * len(names)


def cost(command: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """CPU seconds and peak MB of a command, whose output is removed."""
    python = subprocess.Popen(
        [sys.executable, "-m", *command, "--output-dir", "run", "--workers", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(python.pid, 0)
    python.returncode = os.waitstatus_to_exitcode(status)
    if python.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {python.returncode}")
    for path in folder.iterdir():
        if path.name != "run":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def writer_alone(run: Path) -> float:
    """MB of JSONL per second of pyarrow's writer, given the finished arrays of one file: what no export can exceed."""
    import pyarrow as pa

    from tools.common.run_files import committed_files, spec_of
    from tools.exporting.batches import read_batches
    from tools.exporting.columns import run_schema, to_arrow
    from tools.exporting.parquet import parquet_writer

    pa.set_cpu_count(1)
    fields, file = spec_of(run).fields, committed_files(run)[0]
    schema = run_schema(fields, {})
    table = pa.Table.from_batches([to_arrow(batch, schema) for batch in read_batches(file, fields, lambda _: None)])
    started = time.process_time()
    with Path(os.devnull).open("wb") as out, parquet_writer(out, schema, fields) as writer:
        writer.write_table(table, row_group_size=table.num_rows // 8)
    return file.bytes / 1e6 / (time.process_time() - started)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    given = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        size = make_run(Path(folder, "run"), given.gigabytes)
        for name, command in COMMANDS.items():
            seconds, peak = cost(command, Path(folder))
            print(f"{name}: {size / 1e9:.2f} GB of JSONL in {seconds:.1f} s of CPU, at most {peak:.0f} MB of memory")
            met &= report(f"{name}, MB/s per core", [size / 1e6 / seconds], GOAL_MB_PER_S)
            met &= report(f"{name}, {GOAL_PEAK_MB} MB over peak memory", [GOAL_PEAK_MB / peak], 1)
        print(f"pyarrow's Parquet writer alone, arrays given: {writer_alone(Path(folder, 'run')):.0f} MB/s per core")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
