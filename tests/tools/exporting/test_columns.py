"""tools/exporting/columns.py: batches become Arrow columns of the types that a run's spec says."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from support.committed_runs import CODES as VALUES
from support.committed_runs import damaged_records, make_run, record
from support.envelope import FIELDS
from support.exported import code_records

from audio_tokenizers.base import Field
from tools.exporting.batches import read_batches
from tools.exporting.columns import run_schema, to_arrow

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)


def test_schema_follows_the_record() -> None:
    """Columns stand in the order of a record's keys, one per field, and only what a record may lack may be null."""
    schema = run_schema(FIELDS, {"x": "y"})
    assert schema.names == [
        *("tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "levels", "envelope", "sum"),
        *("text", "language", "metadata"),
    ]
    assert [field.name for field in schema if field.nullable] == ["text", "language", "metadata"]
    element = pa.field("element", pa.int16(), nullable=False)
    assert schema.field("levels").type == pa.list_(element)
    assert schema.field("envelope").type.value_type == pa.list_(pa.field("element", pa.float16(), nullable=False), 2)
    assert run_schema(CODES, {}).field("tokens").type.value_type == pa.list_(element)
    assert schema.metadata == {b"x": b"y"}


def test_rows(tmp_path: Path) -> None:
    """Rows of clips with different lengths, texts that are missing, and metadata as JSON; the arrays are sound."""
    records = code_records([f"{n}.wav" for n in range(5)])
    (file,) = make_run(tmp_path / "run", {"a": records}, CODES)
    schema = run_schema(CODES, {})
    (batch,) = (to_arrow(batch, schema) for batch in read_batches(file, CODES, lambda _: None))
    batch.validate(full=True)
    rows = batch.to_pylist()
    assert [row["audio_file"] for row in rows] == [f"{n}.wav" for n in range(5)]
    assert [[len(book) for book in row["tokens"]] for row in rows] == [[1, 1], [2, 2], [1, 1], [2, 2], [1, 1]]
    assert [row["text"] for row in rows] == [None, "1 é 語", "2 é 語", None, "4 é 語"]
    assert [row["metadata"] for row in rows] == [None, '{"n":1,"é":[1.5,null]}', None, '{"n":3,"é":[1.5,null]}', None]
    assert {row["num_samples"] for row in rows} == {2880}


def test_damage(tmp_path: Path) -> None:
    """Where a run keeps damaged clips each row says what is missing: seconds, 0 of a whole clip, and words or null."""
    (file,) = make_run(tmp_path / "run", {"a": damaged_records(1)}, CODES)
    schema = run_schema(CODES, {}, damage=True)
    assert schema.names[3:7] == ["sample_rate", "damage_seconds", "damage", "tokens"]
    (batch,) = (to_arrow(batch, schema) for batch in read_batches(file, CODES, lambda _: None))
    batch.validate(full=True)
    assert batch.column("damage_seconds").to_pylist() == [0.0, 0.0, 0.0, 0.72, 0.012]
    assert batch.column("damage").to_pylist() == [None, None, None, "frames that cannot be decoded", "its end"]


def test_notes(tmp_path: Path) -> None:
    """What records note stands before their texts, in a list that is empty of most."""
    records = [record(VALUES, audio_file="a.wav", notes=("opposite_phase", "other")), record(VALUES, audio_file="b.wav")]
    (file,) = make_run(tmp_path / "run", {"a": records}, CODES)
    schema = run_schema(CODES, {}, notes=True)
    assert schema.names[4:] == ["tokens", "notes", "text", "language", "metadata"]
    assert not schema.field("notes").nullable
    (batch,) = (to_arrow(batch, schema) for batch in read_batches(file, CODES, lambda _: None))
    batch.validate(full=True)
    assert batch.column("notes").to_pylist() == [["opposite_phase", "other"], []]
