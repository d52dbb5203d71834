"""JSON of records' keys -> numpy arrays, for many records in one call: the inverse of `to_json` in jobs/record_fields.py.

A JSON parser spends most of its time on creating a Python object per token. Here a few array operations read all numbers of
a batch: a number ends where a digit is followed by another character, and up to four digits are summed to its value.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Field, Form
from jobs.record_fields import FeatureRef, shape_key

__all__ = ["Integers", "forms_of", "read_codes", "read_integers", "read_ref", "split_integers"]

Integers = npt.NDArray[np.integer[Any]]

BEFORE = b",,,,"
"""Padding before the first text: three bytes must exist before the end of any number."""
PUNCTUATION = np.frombuffer(b",[]", np.uint8)
ZERO, TEN, HUNDRED = np.uint8(ord("0")), np.uint8(10), np.uint16(100)

_ref_decoder = msgspec.json.Decoder(FeatureRef)


def forms_of(values: Mapping[str, msgspec.Raw]) -> dict[str, Form]:
    """The form of each key of a record, by how its JSON begins; keys that hold another key's shape are left out.

    Raises ValueError for JSON that no backend writes.
    """
    forms: dict[str, Form] = {}
    shapes = set()
    for key, raw in values.items():
        text = bytes(raw)
        if key in shapes:
            continue
        if text.startswith(b"[["):
            forms[key] = "codes"
            shapes.add(shape_key(key))
        elif text.startswith(b"["):
            forms[key] = "list"
        elif text.startswith(b'"<audio_'):
            forms[key] = "audio_string"
        elif text.startswith(b'{"key":'):
            forms[key] = "features"
        else:
            raise ValueError(f"{key}: expected tokens, found {_head(text)}")
    return forms


def _head(text: bytes) -> str:
    return text[:40].decode(errors="backslashreplace")


def read_integers(texts: Sequence[bytes], form: Form) -> tuple[Integers, npt.NDArray[np.int64]]:
    """(all integers of one key of many records, concatenated; the number of integers per record).

    `form` is any but `features`. Raises ValueError if a text holds anything else.
    """
    joined = b"".join((BEFORE, *texts, b","))
    raw = np.frombuffer(joined, np.uint8)
    digits = raw - ZERO  # other characters become 10 or more
    is_digit = digits < TEN
    ends: npt.NDArray[np.int64] = (is_digit[:-1] > is_digit[1:]).nonzero()[0]
    if not _is_right(joined, raw, len(joined) - int(np.count_nonzero(is_digit)), len(ends), len(texts), form):
        for text in texts if len(texts) > 1 else ():
            read_integers([text], form)  # raises for the faulty text
        raise ValueError(f"expected integers, found {_head(texts[0]) if texts else 'nothing'}...")
    limits = np.fromiter(itertools.accumulate(map(len, texts), initial=len(BEFORE)), np.int64, len(texts) + 1)
    places = ends.searchsorted(limits)
    counts = places[1:] - places[:-1]
    # Dense: compute the value of a number ending at every byte, though only the real ends are needed. Operations on single
    # bytes are so fast that this costs less than gathering the digits of each number.
    mask = is_digit.view(np.uint8)
    np.negative(mask, out=mask)  # 255: a digit
    pairs = mask[:-1] & mask[1:]
    if (pairs[:-3] & pairs[2:-1] & mask[4:]).any():  # five digits in a row
        return _any_length(digits, mask, ends), counts
    digits &= mask
    upper = digits[:-3] & pairs[1:-1]  # thousands: the byte three places before the last digit, if all between are digits
    upper *= TEN
    upper += digits[1:-2] & mask[2:-1]
    lower = digits[2:-1] * TEN
    lower += digits[3:]
    ends -= 3
    numbers = upper.take(ends).astype(np.uint16)
    numbers *= HUNDRED
    numbers += lower.take(ends)
    return numbers, counts


def _any_length(digits: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> Integers:
    numbers, which, place = np.zeros(len(ends), np.int64), np.arange(len(ends)), 1
    while len(which := which[mask[ends[which]] != 0]):
        numbers[which] += place * digits[ends[which]].astype(np.int64)
        ends[which] -= 1
        place *= 10
    return numbers


def _is_right(joined: bytes, raw: npt.NDArray[np.uint8], others: int, numbers: int, texts: int, form: Form) -> bool:
    """Whether the `others` bytes that are not digits are exactly the punctuation around that many numbers."""
    others -= len(BEFORE) + 1
    if form == "audio_string":
        heads = joined.count(b"<audio_")
        return heads == joined.count(b">") == numbers and others == numbers * len("<audio_>") + 2 * texts
    commas, opening, closing = (int(np.count_nonzero(raw == byte)) for byte in PUNCTUATION)  # bytes.count is slower
    commas -= len(BEFORE) + 1
    return commas + texts == numbers and others == commas + opening + closing


def split_integers(
    numbers: Integers, counts: npt.NDArray[np.int64], shapes: Sequence[bytes] | None
) -> list[npt.NDArray[np.int64]]:
    """Split the result of `read_integers` by record: int64 [items], or [codebooks, frames] by the JSON of their `shapes`.

    Raises ValueError if a shape does not fit its numbers.
    """
    arrays = np.split(numbers.astype(np.int64), np.cumsum(counts)[:-1])
    if shapes is None:
        return arrays
    decode = msgspec.json.Decoder(tuple[int, int]).decode
    return [array.reshape(decode(shape)) for array, shape in zip(arrays, shapes, strict=True)]


def read_codes(field: Field, records: Sequence[Mapping[str, bytes | msgspec.Raw]]) -> list[npt.NDArray[np.int64]]:
    """The codes of one key of valid records, by record: int64 [codebooks, items]; a flat list has one codebook.

    Raises ValueError for what is not integers of these shapes.
    """
    numbers, counts = read_integers([bytes(values[field.name]) for values in records], field.form)
    if field.form != "codes":
        return [codes[np.newaxis] for codes in split_integers(numbers, counts, None)]
    return split_integers(numbers, counts, [bytes(values[shape_key(field.name)]) for values in records])


def read_ref(text: bytes) -> FeatureRef:
    """Decode a reference to floats. Raises ValueError for other JSON."""
    try:
        return _ref_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"expected a reference to floats, found {_head(text)}: {error}") from None
