"""Rows of a Parquet file with an Audio column: the roles of its columns, and one row as a pair of audio and text."""

from __future__ import annotations

import datetime as dt
import json
import math
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.foreign_json import non_finite_numbers
from jobs.sidecars import FAULTS_KEY
from jobs.text_encoding import decode_text
from jobs.text_rules import LANGUAGE_KEYS, TEXT_KEYS, take_language, take_text
from tools.packing.pairs import LeftOut, Pair
from tools.packing.parquet.forms import FORMS, Form, audio_of, form_of, is_bytes, is_text, record_of, text_of

__all__ = [
    "BATCH_ROWS",
    "BUFFER_BYTES",
    "ID_COLUMNS",
    "Columns",
    "as_pair",
    "bare_name",
    "batches",
    "find_columns",
    "path_of",
    "reading",
]

WEBDATASET_TEXTS = ("txt", "lab")
"""Text columns in the hub's Parquet of WebDataset repositories, used after `json`."""
RECORD = "json"
ID_COLUMNS = ("id", "utt_id", "utterance_id", "audio_id", "segment_id", "clip_id", "__key__")

BATCH_BYTES = 16 << 20
BATCH_ROWS = 1024
BUFFER_BYTES = 1 << 20
"""How much of a column chunk is read at a time; by default pyarrow reads whole chunks of hundreds of MB."""
LONGEST_LIST = 256
"""Elements; longer lists are embeddings and the like, not metadata."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of the columns of one file."""

    audio: str
    text: str | None
    language: str | None
    ids: tuple[str, ...]
    """Columns that may name a clip, by preference."""
    metadata: tuple[str, ...]
    labels: dict[str, list[str]]
    """Column of class numbers -> names of its classes."""
    form: Form = "file"
    record: str | None = None
    """A column of objects or JSON that may contain the text and metadata."""
    has_paths: bool = True
    """Whether rows may name an audio file."""
    text_keys: tuple[str, ...] = TEXT_KEYS
    """Keys of the text in `record`, by preference."""

    @property
    def read(self) -> list[str]:
        """All columns that a pair needs."""
        return [self.audio, *(name for name in (self.text, self.language, self.record) if name), *self.metadata]

    @property
    def data_leaf(self) -> str:
        """Prefix of the Parquet column path of the audio's data."""
        return self.audio + {"file": ".bytes", "bytes": "", "samples": ".array"}[self.form]


def find_columns(
    schema: pa.Schema, place: str, *, text_keys: Sequence[str] = TEXT_KEYS, without_text: bool = False
) -> Columns:
    """Find the columns' roles by the file's metadata of `datasets`, else by types and names. The text is in the first column
    of `text_keys` that holds strings; else under one of these keys in a column `json`, or in `txt` or `lab`.

    Raises UsageError if there is not exactly one Audio column, or no text.
    """
    features = _features(schema)
    audio = [name for name in schema.names if features.get(name, {}).get("_type") == "Audio"]
    forms = {name: form_of(name, schema.field(name).type) for name in audio or schema.names}
    audio = next((some for form in FORMS if (some := [name for name in forms if forms[name] == form])), [])
    if not features and len(audio) > 1:
        audio = [name for name in audio if name == "audio"] or audio
    there = ", ".join(f"{field.name} ({_describe(field.type)})" for field in schema)
    if len(audio) != 1:
        found = f"{len(audio)} of them ({', '.join(audio)})" if audio else "none"
        raise UsageError(
            f"{place}: expected one Audio column, which is a struct of bytes and path (or of array and sampling_rate, or "
            f"bytes that are called `wav`), found {found} among: {there}: "
            "is this the right file? `datasets` can remove_columns or cast_column to Audio(), and save with to_parquet"
        )
    labels = {name: list(found["names"]) for name, found in features.items() if found.get("_type") == "ClassLabel"}
    words = [name for name in schema.names if is_text(schema.field(name).type)]
    text = next((name for name in text_keys if name in words), None)
    record = RECORD if RECORD in schema.names and _may_be_record(schema.field(RECORD).type) else None
    plain = (name for name in WEBDATASET_TEXTS if name in schema.names)
    text = text or next((name for name in plain if name in words or is_bytes(schema.field(name).type)), None)
    if text is None and record is None and not without_text:
        raise UsageError(
            f"{place}: expected the text in one of the columns {', '.join(text_keys)}, found {there}: say which "
            "with --text-key, or give --without-text"
        )
    language = next((name for name in LANGUAGE_KEYS if name in words or name in labels), None)
    ids = [
        name
        for name in ID_COLUMNS
        if name in words or (name in schema.names and pa.types.is_integer(schema.field(name).type))
    ]
    taken = {*audio, text, language, record, "text", "language"}
    rest = [name for name in schema.names if name not in taken and _is_plain(schema.field(name).type, top=True)]
    return Columns(
        audio[0],
        text,
        language,
        tuple(ids),
        tuple(rest),
        labels,
        forms[audio[0]] or "file",
        record,
        _has_paths(schema.field(audio[0]).type),
        tuple(text_keys),
    )


def _has_paths(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(field.name == "path" and is_text(field.type) for field in kind)


def _may_be_record(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return _is_plain(kind)
    return is_text(kind) or (is_bytes(kind) and not pa.types.is_null(kind))


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Column -> its feature in `datasets`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if name in schema.names and isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _is_plain(kind: pa.DataType, *, top: bool = False) -> bool:
    """Whether JSON can represent the type."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    simple = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_date)
    return is_text(kind) or any(test(kind) for test in simple) or (top and pa.types.is_timestamp(kind))


def _describe(kind: pa.DataType) -> str:
    return f"struct of {', '.join(field.name for field in kind)}" if pa.types.is_struct(kind) else str(kind)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns pyarrow's errors about a file into one message."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError) and error.errno is not None:  # pyarrow also raises OSError for damaged data
            raise InfrastructureError(f"{path}: cannot be read: {error.strerror or words}") from error
        raise UsageError(f"{path}: expected a whole Parquet file, found damage: {words}: fetch or write it again") from error


def batches(path: Path, columns: Columns, start: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of its first row, rows) from row `start` on; whole row groups before it are not read.

    Batches have about BATCH_BYTES of memory, whatever the row groups' size.
    """
    with reading(path), pq.ParquetFile(path, buffer_size=BUFFER_BYTES, page_checksum_verification=True) as file:
        row = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            after = row + group.num_rows
            if after > start and group.num_rows:
                size = max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
                for batch in file.iter_batches(size, row_groups=[number], columns=columns.read):
                    skipped = min(max(0, start - row), batch.num_rows)
                    if skipped < batch.num_rows:
                        yield row + skipped, _with_plain_times(batch.slice(skipped))
                    row += batch.num_rows
            row = after


def _with_plain_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Timestamps in UTC and microseconds: Python has no finer ones, and time zone data may be missing."""
    for number, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type):
            kind = pa.timestamp("us", field.type.tz and "UTC")
            batch = batch.set_column(number, field.name, batch.column(number).cast(kind, safe=False))
    return batch


def bare_name(path: str) -> str:
    """A path as a name: relative, with slashes, without an audio extension."""
    name = posixpath.normpath("/" + path.replace("\\", "/")).lstrip("/")
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension.lower() in AUDIO_EXTENSIONS else name


def as_pair(
    columns: Columns,
    batch: pa.RecordBatch,
    index: int,
    *,
    clip: str,
    id_column: str | None,
    split: str | None,
    locate: Callable[[str], Path | None],
    without_text: bool = False,
    decode: Callable[[bytes], str] = decode_text,
) -> Pair | LeftOut:
    """One row as the clip `clip`, named by `id_column`. `locate` gives the path of audio that the row only names; `decode`
    decodes texts in columns of bytes.

    Raises InfrastructureError if such a file cannot be read.
    """
    try:
        row = {name: batch.column(name)[index].as_py() for name in columns.read if name != columns.audio}
    except UnicodeDecodeError as error:
        return LeftOut("unreadable_text", clip, f"strings in Parquet are UTF-8, found {error.object[:20]!r}")
    try:
        record, faults = record_of(row.pop(columns.record), decode) if columns.record else ({}, [])
        text = text_of(row.pop(columns.text), decode) if columns.text else None
    except UnicodeDecodeError as error:
        return LeftOut("unreadable_text", clip, error.reason)
    except ValueError as error:
        return LeftOut("unreadable_text", clip, f"{columns.record}: {error}")
    for name, labels in columns.labels.items():
        if isinstance(number := row.get(name), int) and 0 <= number < len(labels):
            row[name] = labels[number]
    if columns.text not in columns.text_keys:
        said = take_text(record, columns.text_keys)
        text = said if said is not None and (said.strip() or text is None) else text
    if not without_text and not (text or "").strip():
        return LeftOut("audio_without_text" if text is None else "empty_text", clip)
    language = row.pop(columns.language) if columns.language else None
    language = language or take_language(record)
    row = {**record, **row}
    row.pop(id_column or "", None)
    metadata = _metadata(row, [f"{columns.record}: {fault}" for fault in faults])
    if split is not None:
        metadata.setdefault("split", split)
    scalar = batch.column(columns.audio)[index]
    path = path_of(columns, scalar) or ""
    read = audio_of(columns.form, columns.audio, scalar, path, locate)
    if isinstance(read, str):
        return LeftOut("unreadable_audio", clip, read)
    data, size, extension = read
    return Pair(
        id=clip,
        audio_name=f"{bare_name(path) or clip}.{extension}",
        audio=data,
        size=size,
        text=text,
        language=language or None,
        metadata=metadata or None,
    )


def path_of(columns: Columns, audio: pa.Scalar) -> str | None:
    """The path that a row's audio has, if it has one. Raises UnicodeDecodeError."""
    if not audio.is_valid or columns.form == "bytes" or "path" not in {field.name for field in audio.type}:
        return None
    path = audio["path"].as_py()
    return path if isinstance(path, str) else None


def _metadata(row: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    """The values of a row, without empty ones. NaN becomes null and is named among the `faults`."""
    metadata = {
        name: plain for name, value in row.items() if (plain := _plain(value)) is not None or isinstance(value, float)
    }
    faults = [*faults, *non_finite_numbers({name: row[name] for name in metadata})]
    if faults:
        earlier = metadata.get(FAULTS_KEY)
        metadata[FAULTS_KEY] = [*earlier, *faults] if isinstance(earlier, list) else faults
    return metadata


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever a column holds
    """The value as JSON; None for NaN, infinities and long lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(item) for item in value] if len(value) <= LONGEST_LIST else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
