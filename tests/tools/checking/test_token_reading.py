"""tools/checking/token_reading.py: statistics of a run's manifests, or of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.committed_runs import BICODEC_FIELDS, damaged_records, listed, make_run, record, some_records
from support.token_runs import count_run

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from hpc.progress import TarState, scan
from hpc.run import Run
from jobs.records import Record
from jobs.tar_paths import TarPaths
from tools.checking import token_reading
from tools.checking.token_reading import read_totals
from tools.checking.token_totals import Device

FIELDS = (Field(name="tokens", form="codes", width=2, codebook_size=100),)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_reading, "available_cores", lambda: 1)


def states_of(output: Path, files: dict[str, Sequence[Record] | None], fields: tuple[Field, ...] = FIELDS) -> list[TarState]:
    """A run of these tars."""
    make_run(output, files, fields)
    return list(scan(Run(output), listed(output)))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_manifests_are_added_up(output: Path) -> None:
    """With the node that made each tar; a tar that is not committed has no part in it."""
    states = states_of(output, {"1": some_records(1), "2": damaged_records(2), "3": None})
    count_run(output, listed(output)[:2], FIELDS)
    states = list(scan(Run(output), listed(output)))
    totals = read_totals(Run(output), states)
    assert (totals.tars, totals.clips, totals.not_counted, totals.damaged) == (2, 8, [], {})
    found = totals.sequences["tokens"]
    assert found.items == 2 * 8
    assert found.counts[1].nonzero()[0].tolist() == [7, 8]
    assert found.devices.keys() == {Device("n1", "cpu", "")}


def test_tars_of_an_older_version_are_counted_if_that_is_asked_for(output: Path) -> None:
    """From their lines, with the same result; their manifests stay as they are."""
    states = states_of(output, {"1": some_records(1), "2": some_records(2)})
    before = TarPaths(output, "1").manifest.read_bytes()
    assert read_totals(Run(output), states).not_counted == ["1", "2"]
    counted = read_totals(Run(output), states, count=True)
    assert (counted.tars, counted.not_counted) == (2, [])
    assert TarPaths(output, "1").manifest.read_bytes() == before
    count_run(output, listed(output), FIELDS)
    assert (read_totals(Run(output), states).sequences["tokens"].counts == counted.sequences["tokens"].counts).all()


def test_two_keys_have_statistics_each(output: Path) -> None:
    """BiCodec's global and semantic tokens."""
    values = {"global_tokens": b"[" + b",".join(b"%d" % n for n in range(32)) + b"]", "semantic_tokens": b"[8000,5]"}
    states = states_of(output, {"1": [record(values)]}, BICODEC_FIELDS)
    found = read_totals(Run(output), states, count=True).sequences
    assert [(key, one.items, one.size) for key, one in found.items()] == [
        ("global_tokens", 32, 4096),
        ("semantic_tokens", 2, 8192),
    ]


def test_damage_is_named(output: Path) -> None:
    """Of a manifest, or of the lines that are to be counted; the other tars are reported all the same."""
    states = states_of(output, {"1": some_records(1), "2": some_records(2), "3": some_records(3)})
    count_run(output, listed(output), FIELDS)
    path = TarPaths(output, "2").manifest
    path.write_bytes(path.read_bytes().replace(b'"items":6', b'"items":-6'))
    totals = read_totals(Run(output), states)
    assert (totals.tars, list(totals.damaged)) == (2, ["2"])
    make_run(output.with_name("other"), {"1": [record({"tokens": b"[[1,x],[2,3]]", "token_shape": b"[2,2]"})]}, FIELDS)
    states = list(scan(Run(output.with_name("other")), listed(output.with_name("other"))))
    assert list(read_totals(Run(output.with_name("other")), states, count=True).damaged) == ["1"]


def test_counting_takes_the_spec(output: Path) -> None:
    """Which says what the keys of the records are."""
    states = states_of(output, {"1": some_records(1)})
    Run(output).spec_file.unlink()
    with pytest.raises(UsageError, match="restore it"):
        read_totals(Run(output), states, count=True)
    assert read_totals(Run(output), states).not_counted == ["1"]
