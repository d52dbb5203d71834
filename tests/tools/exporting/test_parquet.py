"""tools/exporting/parquet.py: what pyarrow reads back is what the run holds, in files whose bytes depend on nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from support.committed_runs import make_run
from support.exported import by_tar, code_records, same, tokenized_run

from audio_tokenizers.base import Field
from tools.common.run_files import committed_files, spec_of
from tools.exporting import parquet
from tools.exporting.parquet import write_parquet


def written(run: Path, path: Path) -> Path:
    write_parquet(committed_files(run), path, spec_of(run), lambda _: None)
    return path


@pytest.mark.parametrize("several_keys", [False, True])
def test_round_trip(several_keys: bool, tmp_path: Path) -> None:
    """Every clip comes back once, in order, equal to what the reader gives, in codes, strings, lists and floats."""
    run = tokenized_run(tmp_path, several_keys=several_keys)
    rows = pq.read_table(written(run, tmp_path / "x.parquet")).to_pylist()
    clips = [clip for clips in by_tar(run).values() for clip in clips]
    assert len(rows) == len(clips) == 12
    for row, clip in zip(rows, clips, strict=True):
        assert same(row, clip)
        found = {key: row[key] for key in ("tar_file", "audio_file", "num_samples", "sample_rate", "text", "language")}
        assert found == {key: getattr(clip, key) for key in found}


def test_metadata_is_the_records(tmp_path: Path) -> None:
    """What a `.json` sidecar said stands in `metadata` as JSON of the same value."""
    field = Field(name="tokens", form="codes", width=2, codebook_size=1024)
    records = code_records(["a.wav", "b.wav"])
    make_run(tmp_path / "run", {"a": records}, (field,))
    column = pq.read_table(written(tmp_path / "run", tmp_path / "x.parquet"))["metadata"].to_pylist()
    assert [text and msgspec.json.decode(text) for text in column] == [None, {"n": 1, "é": [1.5, None]}]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is that of a row group, which ends after so many bytes of lines; what is read back stays the same."""
    run = tokenized_run(tmp_path)
    whole = pq.read_table(written(run, tmp_path / "whole.parquet"))
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    file = pq.ParquetFile(written(run, tmp_path / "x.parquet"))
    assert file.num_row_groups == 3
    assert file.read() == whole


def test_how_it_is_written(tmp_path: Path) -> None:
    """All in zstd; tokens as packed differences, not through a dictionary; the run's recipe and rate in the schema."""
    run = tokenized_run(tmp_path)
    file = pq.ParquetFile(written(run, tmp_path / "x.parquet"))
    columns = {c.path_in_schema: c for c in (file.metadata.row_group(0).column(n) for n in range(file.metadata.num_columns))}
    tokens = columns["tokens.list.element.list.element"]
    assert "DELTA_BINARY_PACKED" in tokens.encodings
    assert not tokens.has_dictionary_page
    assert columns["tar_file"].has_dictionary_page
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    spec = spec_of(run)
    assert file.schema_arrow.metadata[b"tar2tokens.fingerprint"].decode() == spec.fingerprint
    assert file.schema_arrow.metadata[b"tar2tokens.backend"] == b"mulaw"
    assert float(file.schema_arrow.metadata[b"tar2tokens.frames_per_second"]) == spec.sample_rate / spec.hop_length


def test_bytes_depend_on_the_run_alone(tmp_path: Path) -> None:
    """The same run gives the same bytes again."""
    run = tokenized_run(tmp_path, several_keys=True)
    assert written(run, tmp_path / "1").read_bytes() == written(run, tmp_path / "2").read_bytes()


def test_a_run_without_clips(tmp_path: Path) -> None:
    """Tars without audio, or with errors alone, give a file with no rows, which has all its columns."""
    field = Field(name="tokens", form="codes", width=2, codebook_size=1024)
    make_run(tmp_path / "run", {"a": [], "b": code_records([])}, (field,))
    table = pq.read_table(written(tmp_path / "run", tmp_path / "x.parquet"))
    assert (table.num_rows, table.num_columns) == (0, 10)
