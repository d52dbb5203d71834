"""Batches of records -> Arrow record batches with typed columns, straight from flat arrays and offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from audio_tokenizers.base import Field
from tools.exporting.batches import Batch, Column, number_type

__all__ = ["run_schema", "to_arrow"]


def run_schema(
    fields: Sequence[Field], metadata: Mapping[str, str], *, damage: bool = False, notes: bool = False
) -> pa.Schema:
    """One column per key of a record, in its order. Only text, language, metadata (JSON) and damage (text) may be null.

    `damage`: the run keeps damaged clips, in two columns: damage_seconds, 0 for undamaged clips, and damage.
    `notes`: add a column of the records' notes, list<string>, mostly empty.
    codes: list<list<int>> [codebooks][frames]; list and audio_string: list<int>; features: list<fixed_size_list<float>>
    [rows][width].
    """
    columns = [
        pa.field("tar_file", pa.string(), nullable=False),
        pa.field("audio_file", pa.string(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("sample_rate", pa.int32(), nullable=False),
        *([pa.field("damage_seconds", pa.float64(), nullable=False), pa.field("damage", pa.string())] if damage else []),
        *(pa.field(field.name, _type(field), nullable=False) for field in fields),
        *([pa.field("notes", pa.list_(_element(pa.string())), nullable=False)] if notes else []),
        pa.field("text", pa.string()),
        pa.field("language", pa.string()),
        pa.field("metadata", pa.string()),
    ]
    return pa.schema(columns, dict(metadata))


def _element(kind: pa.DataType) -> pa.Field:
    return pa.field("element", kind, nullable=False)


def _type(field: Field) -> pa.DataType:
    number = pa.from_numpy_dtype(number_type(field))
    if field.form == "features":
        return pa.list_(_element(pa.list_(_element(number), field.width)))
    flat = pa.list_(_element(number))
    return pa.list_(_element(flat)) if field.form == "codes" else flat


def to_arrow(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch as rows of `schema`."""
    records = batch.records
    arrays: dict[str, Any] = {
        "tar_file": [record.tar_file for record in records],
        "audio_file": [record.audio_file for record in records],
        "num_samples": [record.num_samples for record in records],
        "sample_rate": [record.sample_rate for record in records],
        "damage_seconds": [record.damage.seconds if record.damage else 0.0 for record in records],
        "damage": [record.damage.what if record.damage else None for record in records],
        "notes": [record.notes for record in records],
        "text": [record.text for record in records],
        "language": [record.language for record in records],
        "metadata": [None if r.metadata is None else msgspec.json.encode(r.metadata).decode() for r in records],
    }
    columns = [
        _lists(batch.columns[field.name], field.type)
        if field.name in batch.columns
        else pa.array(arrays[field.name], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _lists(column: Column, kind: pa.DataType) -> pa.Array:
    numbers = pa.array(column.numbers)
    if column.shapes.shape[1] == 1:
        return pa.ListArray.from_arrays(_offsets(column.shapes[:, 0]), numbers, type=kind)
    rows, width = column.shapes.T
    inner = kind.value_type
    if pa.types.is_fixed_size_list(inner):
        lists = pa.FixedSizeListArray.from_arrays(numbers, type=inner)
    else:
        lists = pa.ListArray.from_arrays(_offsets(np.repeat(width, rows)), numbers, type=inner)
    return pa.ListArray.from_arrays(_offsets(rows), lists, type=kind)


def _offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)
