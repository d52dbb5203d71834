"""benchmarks/soak_data.py: tars of which some are bad on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import call, committed_bytes, write_list

from benchmarks.soak_data import make_tars
from hpc.submit import submit
from jobs.records import ErrorRecord, decode_record


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tars(tmp_path: Path) -> None:
    """Byte for byte: a soak can be repeated on them."""
    one, two, other = (make_tars(tmp_path / name, seed, 6, 4) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert [tar.read_bytes() for tar in one.tars] == [tar.read_bytes() for tar in two.tars]
    assert [tar.read_bytes() for tar in one.tars] != [tar.read_bytes() for tar in other.tars]
    assert (one.damaged, one.clips, one.bad_clips) == (two.damaged, two.clips, two.bad_clips)


@pytest.mark.slow
def test_the_damage_is_what_it_says(tmp_path: Path) -> None:
    """Damaged tars are not committed, all others are; as many clips as are bad have errors, the rest tokens."""
    for seed in range(3):
        folder = tmp_path / str(seed)
        data = make_tars(folder / "in", seed, 50, 3)
        assert len(data.damaged) == 1
        listed = write_list(folder / "list", data.tars)
        words = "--list", listed, "--backend", "mulaw", "--cluster", "local", "--workers", 1, "--output-dir", folder / "out"
        assert call(submit, *words) == 3
        committed = committed_bytes(folder / "out")
        assert {name.removesuffix(".jsonl") for name in committed} == {f"{n:04}" for n in range(50)} - data.damaged
        records = [decode_record(line) for content in committed.values() for line in content.splitlines()]
        errors = sum(isinstance(record, ErrorRecord) for record in records)
        assert errors <= data.bad_clips <= errors + data.clips - len(records)
