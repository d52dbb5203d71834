"""A committed file's records in batches, with tokens and floats as arrays over all clips of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Codes, Features, Field
from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.command_names import called
from jobs.features import StoredFeatures
from jobs.record_fields import FeatureRef, shape_key, value_keys
from jobs.records import TokenRecord, decode_record
from jobs.token_arrays import read_integers, read_ref
from tools.common.run_files import CommittedFile, read_lines

__all__ = ["Batch", "Column", "Tell", "number_type", "read_batches"]

BATCH_BYTES = 1 << 20
"""Large enough to amortize numpy's calls, small enough for the CPU's cache."""
KEPT_BYTES = 24 << 20

Tell = Callable[[int], None]
"""Called with bytes read. May raise to end the work."""


@dataclass(frozen=True, slots=True)
class Column:
    """One key of a batch's records."""

    numbers: Codes | Features
    """[all items of all clips], one clip after another."""
    shapes: npt.NDArray[np.int64]
    """[clips, 1] of flat lists, [clips, 2] of codes and floats."""

    def clips(self) -> Iterator[Codes | Features]:
        """The array of each clip: a view."""
        sizes = self.shapes.prod(axis=1)
        start = 0
        for size, shape in zip(sizes.tolist(), self.shapes.tolist(), strict=True):
            yield self.numbers[start : start + size].reshape(shape)
            start += size


@dataclass(slots=True)
class Batch:
    """Consecutive records with tokens; errors are left out."""

    records: list[TokenRecord] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    """Of each record: the index of its line, which is that of its clip."""
    columns: dict[str, Column] = field(default_factory=dict)
    """By the name of the field."""
    bytes: int = 0
    """Bytes of the lines read for it, including errors, and of its floats."""


def number_type(field: Field) -> np.dtype[Any]:
    """The smallest type of 16 or 32 bits that holds every value of a field."""
    if field.form == "features":
        return np.dtype(field.dtype)
    return np.dtype(np.int16 if field.lowest + field.codebook_size <= 1 << 15 else np.int32)


def read_batches(file: CommittedFile, fields: Sequence[Field], tell: Tell) -> Iterator[Batch]:
    """All records with tokens, in order.

    Raises InfrastructureError if the file is not what was committed. The hash is checked at the end: what was made of the
    batches is invalid then.
    """
    # glibc gives the memory of each batch back to the system, and gets it again page by page, which took half of the time,
    # until a larger block has been freed.
    np.empty(KEPT_BYTES, np.uint8)
    names = [field.name for field in fields if field.form == "features"]
    features = StoredFeatures(file.path.with_suffix(".safetensors")) if names and file.manifest.features_bytes else None
    with closing(features) if features is not None else nullcontext():
        for batch in _records(file, value_keys(fields), names):
            try:
                for field in fields:
                    batch.columns[field.name] = _column(field, batch.records, features)
            except ValueError as error:
                first = batch.records[0].audio_file
                raise InfrastructureError(f"{file.path}: near {first}: {error}: {_look()}") from None
            yield batch
            tell(batch.bytes)


def _look() -> str:
    return f"see {called('tools.check_progress')} --check-validity"


def _records(file: CommittedFile, keys: list[str], features: Sequence[str]) -> Iterator[Batch]:
    batch = Batch()
    for index, line in enumerate(read_lines(file)):
        batch.bytes += len(line)
        try:
            record = decode_record(line)
        except msgspec.DecodeError as error:
            raise InfrastructureError(f"{file.path}: line {index + 1} is no record ({error}): {_look()}") from None
        if isinstance(record, TokenRecord):
            if list(record.values) != keys:
                found = ", ".join(record.values)
                raise InfrastructureError(
                    f"{file.path}: line {index + 1}: expected {', '.join(keys)}, found {found}: {_look()}"
                )
            batch.records.append(record)
            batch.indices.append(index)
            batch.bytes += sum(read_ref(bytes(record.values[name])).size for name in features)
        if batch.bytes >= BATCH_BYTES and batch.records:
            yield batch
            batch = Batch()
    if batch.records:
        yield batch


def _column(field: Field, records: Sequence[TokenRecord], features: StoredFeatures | None) -> Column:
    texts = [bytes(record.values[field.name]) for record in records]
    if field.form == "features":
        return _floats(field, [read_ref(text) for text in texts], features)
    found, counts = read_integers(texts, field.form)
    if int(found.max()) >= field.lowest + field.codebook_size or int(found.min()) < field.lowest:
        raise ValueError(f"{field.name}: expected {field.lowest}..{field.lowest + field.codebook_size - 1}, found others")
    numbers = cast("Codes", found.astype(number_type(field), copy=False))
    if field.form != "codes":
        return Column(numbers, counts[:, None])
    shapes = _shapes([bytes(record.values[shape_key(field.name)]) for record in records])
    if not np.array_equal(shapes.prod(axis=1), counts) or np.any(shapes[:, 0] != field.width):
        raise ValueError(f"{field.name}: its shapes do not fit its codes")
    return Column(numbers, shapes)


def _shapes(texts: Sequence[bytes]) -> npt.NDArray[np.int64]:
    try:
        shapes = msgspec.json.decode(b"[%s]" % b",".join(texts), type=list[tuple[int, int]])
    except msgspec.DecodeError as error:
        raise ValueError(f"expected shapes of codes: {error}") from None
    return np.array(shapes, np.int64)


def _floats(field: Field, refs: Sequence[FeatureRef], features: StoredFeatures | None) -> Column:
    if features is None:
        raise ValueError(f"{field.name}: its manifest knows of no floats")
    shapes = np.array([ref.shape for ref in refs], np.int64)
    if any(ref.dtype != field.dtype for ref in refs) or np.any(shapes[:, 1] != field.width):
        raise ValueError(f"{field.name}: expected {field.dtype} [rows, {field.width}], found others")
    return Column(np.concatenate([features.read(ref).reshape(-1) for ref in refs]), shapes)
