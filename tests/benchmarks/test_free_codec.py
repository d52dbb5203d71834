from __future__ import annotations

import json
from pathlib import Path

from benchmarks.free_codec import FreeCodec, free_spec
from benchmarks.sweep import encoded_as
from benchmarks.ways import pipeline, write_tar
from jobs.records import TokenRecord, decode_record


def test_its_lines_are_those_of_higgs(tmp_path: Path) -> None:
    """8 codebooks at 25 frames per second, valid as records of a run, with long clips in fragments."""
    tar = write_tar(tmp_path / "a.tar", [encoded_as("FLAC", 2.0), encoded_as("FLAC", 70.0)], 1)
    pipeline(free_spec(), FreeCodec(), tar, tmp_path / "tokens", "cpu", 2)
    lines = (tmp_path / "tokens" / "a.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["token_shape"] for line in lines] == [[8, 50], [8, 1750]]
    assert all(isinstance(decode_record(line), TokenRecord) for line in lines)
