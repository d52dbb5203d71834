"""Convert and check a clip's values: a backend's arrays <-> the JSON of a record's keys, as the backend's Fields declare.

A key may hold codes ([codebooks, frames], with their shape in a second key), a flat list, a string of <audio_N>, or a
FeatureRef to an array of floats in NAME.safetensors.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import msgspec
import numpy as np
import orjson

from audio_tokenizers.base import Codes, Features, Field, Values
from audio_tokenizers.shared.wording import counted
from jobs.records import codes_to_json, token_fault

__all__ = [
    "FeatureRef",
    "array_fault",
    "check_counts",
    "codes_shape",
    "count_fault",
    "feature_refs",
    "shape_key",
    "to_json",
    "value_keys",
    "values_fault",
]

AUDIO_STRING = re.compile(rb'"(?:<audio_(?:0|[1-9][0-9]*)>)+"')
AUDIO_NUMBER = re.compile(rb"[0-9]+")
SHAPE = re.compile(rb"\[(0|[1-9][0-9]{0,17}),(0|[1-9][0-9]{0,17})\]")


class FeatureRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refers to the floats of one key: the tensor `key` in NAME.safetensors."""

    key: str
    shape: tuple[int, int]
    """[rows, width]"""
    dtype: Literal["float16", "float32"]
    crc32: int
    """Checksum of the tensor's little-endian bytes: detects data lost in a power failure."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize

    @classmethod
    def of(cls, array: Features, key: str) -> FeatureRef:
        """A reference to an array as `feature_bytes` writes it."""
        dtype: Literal["float16", "float32"] = "float16" if array.dtype == np.float16 else "float32"
        return cls(key=key, shape=(array.shape[0], array.shape[1]), dtype=dtype, crc32=zlib.crc32(array.tobytes()))


_ref_decoder = msgspec.json.Decoder(FeatureRef)


@functools.cache
def shape_key(name: str) -> str:
    """`tokens` -> `token_shape`: the key that holds the shape of codes."""
    return f"{name.removesuffix('s')}_shape"


def value_keys(fields: Sequence[Field]) -> list[str]:
    """The keys of a record between its sample rate and its text, in order."""
    keys = []
    for field in fields:
        keys += [field.name, shape_key(field.name)] if field.form == "codes" else [field.name]
    return keys


def array_fault(fields: Sequence[Field], values: Values) -> str | None:
    """How a backend's arrays differ from what it declared, or None."""
    if list(values) != [field.name for field in fields]:
        return f"the keys {list(values)} instead of {[field.name for field in fields]}"
    for field in fields:
        array = values[field.name]
        if field.form == "features":
            if array.ndim != 2 or array.shape[1] != field.width or not len(array) or str(array.dtype) != field.dtype:
                return (
                    f"{field.name} of shape {list(array.shape)} and type {array.dtype}: expected {field.dtype} "
                    f"[rows, {field.width}]"
                )
            continue
        shaped = (array.ndim == 2 and array.shape[0] == field.width) if field.form == "codes" else array.ndim == 1
        if not shaped or not array.size or array.dtype.kind not in "iu" or not _in_range(field, array):
            expected = f"[{field.width}, frames]" if field.form == "codes" else "[items]"
            return (
                f"{field.name} of shape {list(array.shape)} and type {array.dtype}, or out of range: expected integers "
                f"{expected} in {_range(field)}"
            )
    return None


def _in_range(field: Field, codes: Codes | Features) -> bool:
    return int(codes.min()) >= field.lowest and int(codes.max()) < field.lowest + field.codebook_size


def _range(field: Field) -> str:
    return f"{field.lowest}..{field.lowest + field.codebook_size - 1}"


def to_json(
    fields: Sequence[Field], values: Values, index: int
) -> tuple[dict[str, bytes], list[tuple[FeatureRef, Features]]]:
    """(JSON by record key, (reference, array) pairs for NAME.safetensors) of the clip at `index` in its tar."""
    json: dict[str, bytes] = {}
    features: list[tuple[FeatureRef, Features]] = []
    for field in fields:
        array = values[field.name]
        if field.form == "features":
            floats = cast("Features", array)
            ref = FeatureRef.of(floats, f"{index}/{field.name}")
            features.append((ref, floats))
            json[field.name] = msgspec.json.encode(ref)
        elif field.form == "audio_string":
            json[field.name] = b'"' + b"".join(b"<audio_%d>" % code for code in array.tolist()) + b'"'
        else:
            json[field.name] = codes_to_json(cast("Codes", array))
            if field.form == "codes":
                json[shape_key(field.name)] = b"[%d,%d]" % array.shape
    return json, features


def feature_refs(fields: Sequence[Field], values: Mapping[str, msgspec.Raw]) -> list[FeatureRef]:
    """The references in a valid record's values, in the order of their arrays."""
    return [_ref_decoder.decode(values[field.name]) for field in fields if field.form == "features"]


def values_fault(fields: Sequence[Field], values: Mapping[str, msgspec.Raw]) -> str | None:
    """What is wrong with the JSON of a record's keys, or None. Only exactly what `to_json` writes is valid."""
    if list(values) != value_keys(fields):
        return f"it has the keys {list(values)}, expected {value_keys(fields)}"
    for field in fields:
        text = bytes(values[field.name])
        if field.form == "codes":
            shape = codes_shape(field, values)
            if shape is None:
                found = bytes(values[shape_key(field.name)])[:30].decode(errors="backslashreplace")
                return f"{shape_key(field.name)} is {found}, expected [{field.width}, frames]"
            fault = token_fault(text, shape, field.codebook_size)
        elif field.form == "features":
            fault = _ref_fault(field, text)
        else:
            fault = _items_fault(field, text)
        if fault is not None:
            return fault if field.name == "tokens" else f"{field.name}: {fault}"
    return None


def codes_shape(field: Field, values: Mapping[str, msgspec.Raw]) -> tuple[int, int] | None:
    """[codebooks, frames] from the record; None if it is not a valid shape of the field's width."""
    shape = _shape(bytes(values[shape_key(field.name)]))
    return shape if shape is not None and shape[0] == field.width and shape[1] else None


@functools.lru_cache(maxsize=4096)
def _shape(text: bytes) -> tuple[int, int] | None:
    match = SHAPE.fullmatch(text)
    return (int(match[1]), int(match[2])) if match is not None else None


def _items_fault(field: Field, text: bytes) -> str | None:
    expected = f"expected {'a string of <audio_N>' if field.form == 'audio_string' else 'a list'}, N in {_range(field)}"
    codes = _items(field, text)
    if codes is None:
        return f"{expected}, found {text[:30].decode(errors='backslashreplace')}..."
    if not _in_range(field, codes):
        return f"{expected}, found {codes.min()}..{codes.max()}"
    return None


def _items(field: Field, text: bytes) -> Codes | None:
    """The integers of a flat list or an audio string; None if `to_json` would write it differently."""
    if field.form == "audio_string":
        if not AUDIO_STRING.fullmatch(text):
            return None
        numbers = AUDIO_NUMBER.findall(text)
        return np.array(numbers, dtype=np.int64) if max(map(len, numbers)) < 18 else None
    try:
        items = orjson.loads(text)
        codes = np.array(items)
    except (orjson.JSONDecodeError, ValueError):
        return None
    if codes.ndim != 1 or not codes.size or codes.dtype.kind not in "iu" or codes_to_json(codes) != text:
        return None
    return codes


def _ref_fault(field: Field, text: bytes) -> str | None:
    expected = f"expected the key, shape [rows, {field.width}], type {field.dtype} and crc32 of an array"
    try:
        ref = _ref_decoder.decode(text)
    except msgspec.DecodeError as error:
        return f"{expected}: {error}"
    if ref.shape[0] < 1 or ref.shape[1] != field.width or ref.dtype != field.dtype or msgspec.json.encode(ref) != text:
        return f"{expected}, found {text[:60].decode(errors='backslashreplace')}..."
    return None


def check_counts(fields: Sequence[Field], values: Mapping[str, msgspec.Raw], num_samples: int) -> str | None:
    """Why there are too many or too few values for a clip of `num_samples`, or None."""
    for field in fields:
        if field.items is not None or field.samples_per_item is not None:
            fault = count_fault(field, _count(field, values), num_samples)
            if fault is not None:
                return fault
    return None


def count_fault(field: Field, items: int, num_samples: int) -> str | None:
    """Why a field of `items` is too long or too short for a clip of `num_samples`, or None."""
    if field.items is not None and items != field.items:
        return f"{field.name} has {counted(items, 'item')}, expected {field.items}"
    if field.samples_per_item is not None and abs(items - num_samples / field.samples_per_item) > field.slack:
        became = f"{counted(num_samples, 'sample')} became {items} {_unit(field)}"
        return f"{became}, expected about one per {field.samples_per_item:g}"
    return None


def _unit(field: Field) -> str:
    return "frames" if field.form == "codes" else "rows" if field.form == "features" else f"{field.name}"


def _count(field: Field, values: Mapping[str, msgspec.Raw]) -> int:
    text = bytes(values[field.name])
    if field.form == "codes":
        shape = codes_shape(field, values)
        return shape[1] if shape else 0
    if field.form == "features":
        return _ref_decoder.decode(text).shape[0]
    return text.count(b"<") if field.form == "audio_string" else text.count(b",") + 1
