"""Committed files -> one Parquet file: typed token columns, zstd, row groups of bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from audio_tokenizers.base import Field
from jobs.spec import TokenizeSpec
from tools.common.run_files import CommittedFile
from tools.exporting.batches import Tell, read_batches
from tools.exporting.columns import run_schema, to_arrow

__all__ = ["parquet_writer", "run_metadata", "write_parquet"]

ROW_GROUP_BYTES = 32_000_000
"""Bytes of JSON lines and floats that are held in memory before they are written."""
PACKED_LEVEL = -5
"""zstd's level for integers, which are packed already: level 1 saves 0 to 5 % of the file for a tenth more time, level 3
takes twice the time. Other columns have pyarrow's default level."""


def run_metadata(spec: TokenizeSpec) -> dict[str, str]:
    """The file's metadata about its run."""
    return {
        "tar2tokens.fingerprint": spec.fingerprint,
        "tar2tokens.backend": spec.backend,
        "tar2tokens.frames_per_second": f"{spec.sample_rate / spec.hop_length:g}",
    }


def write_parquet(
    files: Iterable[CommittedFile],
    path: Path,
    spec: TokenizeSpec,
    tell: Tell,
    metadata: Mapping[str, str] | None = None,
    *,
    notes: bool = False,
) -> None:
    """Write the records of `files`, in order; `metadata` is added to the schema, beside the run's. `notes`: with a column of
    notes.

    Raises InfrastructureError if a file is not what was committed; the output is invalid then.
    """
    pa.set_cpu_count(1)  # there is already a process per core
    said = {**run_metadata(spec), **(metadata or {})}
    schema = run_schema(spec.fields, said, damage=spec.max_damage > 0, notes=notes)
    with path.open("wb") as file, parquet_writer(file, schema, spec.fields) as writer:
        held: list[pa.RecordBatch] = []
        size = 0
        for committed in files:
            for batch in read_batches(committed, spec.fields, tell):
                held.append(to_arrow(batch, schema))
                size += batch.bytes
                if size >= ROW_GROUP_BYTES:
                    _write(writer, held)
                    held, size = [], 0
        if held:
            _write(writer, held)


def parquet_writer(file: BinaryIO, schema: pa.Schema, fields: Sequence[Field]) -> pq.ParquetWriter:
    """A writer of pyarrow's, as these columns are best written."""
    packed = [_leaf(field) for field in fields if field.form != "features"]
    named = ["tar_file", "sample_rate", "language"]
    return pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=dict.fromkeys(packed, PACKED_LEVEL) or None,
        use_dictionary=named,
        column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED"),
        write_statistics=["num_samples", *named],
    )


def _write(writer: pq.ParquetWriter, batches: list[pa.RecordBatch]) -> None:
    table = pa.Table.from_batches(batches)
    writer.write_table(table, row_group_size=table.num_rows)


def _leaf(field: Field) -> str:
    return f"{field.name}.list.element" + (".list.element" if field.form == "codes" else "")
