"""Pure: what a line of an older tool says, and its tokens in the form of our records. Lines may hold anything.

The kinds of lines are those that `merge --shape` writes (tools/merging/shapes.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import msgspec
import numpy as np
import orjson

from audio_tokenizers.base import Codes, Field
from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted, first_line
from jobs.record_fields import shape_key, values_fault
from jobs.records import codes_to_json
from tools.merging.shapes import NEEDED, Shape, fitting_shapes

__all__ = ["TOOLS", "OldLine", "UnfitError", "kind_for", "member_names", "read_old_line", "values_of"]

TOOLS: Mapping[Shape, str] = {
    "higgs": "tokenize_audio.py (tokens of a codec)",
    "bicodec": "extract_tar_tokens.py (BiCodec)",
    "text_audio_pairs": "prepare_genshin_pairs.py (pairs of text and audio)",
}
"""Where each kind of line comes from."""
KEYS: Mapping[Shape, frozenset[str]] = {
    "higgs": frozenset({"tar_file", "audio_file"}),
    "bicodec": frozenset({"text", "global_tokens", "semantic_tokens"}),
    "text_audio_pairs": frozenset({"id", "text", "tokens", "rel_wav", "sr"}),
}
NAMED_BY: Mapping[Shape, str] = {"bicodec": "text", "text_audio_pairs": "rel_wav"}
"""The key that says of which clip a line is."""
AUDIO_STRING = re.compile(r"(?:<audio_[0-9]{1,9}>)+", re.ASCII)
AUDIO_NUMBER = re.compile(r"[0-9]+", re.ASCII)
CLUSTERS = 1024
"""Codes of vq02; those of vq06 follow. Two of the first and three of the second take turns."""
GROUP, FIRST = 5, 2


class UnfitError(Exception):
    """Why a line cannot be taken over."""


@dataclass(frozen=True, slots=True)
class OldLine:
    """A line that one of the tools has written."""

    kind: Shape
    name: str
    """What it says of its clip: the member's name, the text (BiCodec), or the file's path (pairs)."""
    tar: str = ""
    """Its tar, if it names one."""
    error: str | None = None
    """The tool's message, if it failed."""
    values: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    """Its other keys, as they stand there."""

    def text_of(self, key: str) -> str | None:
        """The text under a key, if there is one."""
        return _text(self.values.get(key))

    def integer_of(self, key: str) -> int | None:
        """The integer under a key, if there is one."""
        found = re.fullmatch(rb"-?[0-9]{1,18}", bytes(self.values.get(key, msgspec.Raw())))
        return int(found[0]) if found else None


def kind_for(fields: Sequence[Field]) -> Shape:
    """The kind of lines that has all keys of records with these fields. Raises UsageError if none has."""
    names = {field.name for field in fields}
    for kind in fitting_shapes(fields):
        if names == NEEDED[kind].keys():
            return kind
    has = ", ".join(f"{field.name} ({field.form})" for field in fields)
    known = "; ".join(f"{', '.join(keys)}: {TOOLS[kind]}" for kind, keys in NEEDED.items())
    raise UsageError(f"records of this backend and its options have {has}: no older tool's lines have just these ({known})")


def read_old_line(data: bytes) -> OldLine:
    """What a line says. Raises UnfitError if it is not a line of one of the tools."""
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnfitError(f"not a JSON object ({first_line(error, 80)})") from None
    if found.keys() >= KEYS["higgs"]:
        return _codec_line(found)
    for kind, key in NAMED_BY.items():
        if found.keys() >= KEYS[kind]:
            name = _text(found[key])
            if name is None or not name.strip():
                raise UnfitError(f"its {key} is {_start(found[key])}, which does not say of which clip it is")
            return OldLine(kind, name.strip() if kind == "bicodec" else _plain_name(name), values=found)
    raise UnfitError(f"its keys ({', '.join(sorted(found))[:80] or 'none'}) are those of no older tool")


def _codec_line(found: Mapping[str, msgspec.Raw]) -> OldLine:
    tar, name = _text(found["tar_file"]), _text(found["audio_file"])
    if not tar or not name:
        key = "audio_file" if tar else "tar_file"
        raise UnfitError(f"its {key} is {_start(found[key])}, expected a name")
    error = _text(found["error"]) or _start(found["error"]) if "error" in found else None
    return OldLine("higgs", _plain_name(name), tar, error, found)


def _text(raw: msgspec.Raw | None) -> str | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _start(raw: msgspec.Raw) -> str:
    return bytes(raw)[:30].decode(errors="backslashreplace")


def _plain_name(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name


def member_names(name: str) -> tuple[str, ...]:
    """The names by which an old line may mean a member: its own, and the last part of it."""
    plain = _plain_name(name)
    return tuple(dict.fromkeys((plain, PurePath(plain).name or plain)))


def values_of(line: OldLine, fields: Sequence[Field]) -> dict[str, msgspec.Raw]:
    """The line's tokens as the values of a record. Raises UnfitError if the backend cannot have made them."""
    values: dict[str, msgspec.Raw] = {}
    for one in fields:
        if one.name not in line.values:
            raise UnfitError(f"it has no {one.name}")
        if one.form == "audio_string":
            values[one.name] = msgspec.Raw(_audio_string(line, one))
            continue
        codes = _codes(line.values[one.name], one)
        values[one.name] = msgspec.Raw(codes_to_json(codes))
        if one.form == "codes":
            shape = b"[%d,%d]" % codes.shape
            told = line.values.get(shape_key(one.name))
            if told is not None and bytes(told).translate(None, b" \t") != shape:
                raise UnfitError(f"{shape_key(one.name)} is {_start(told)}, {one.name} have {list(codes.shape)}")
            values[shape_key(one.name)] = msgspec.Raw(shape)
    fault = values_fault(fields, values)
    if fault is not None:
        raise UnfitError(fault)
    return values


def _codes(raw: msgspec.Raw, one: Field) -> Codes:
    """Integers [codebooks, frames] or [items], in the field's range."""
    many = one.form == "codes"
    last = one.lowest + one.codebook_size - 1
    shape = f"{counted(one.width, 'list')} of integers" if many else "a list of integers"
    expected = f"{one.name}: expected {shape} in {one.lowest}..{last}"
    try:
        rows: Any = orjson.loads(bytes(raw))
        codes = np.array(rows)
        integers = codes.size > 0 and codes.dtype.kind in "iu" and orjson.dumps(rows) == codes_to_json(codes)
    except (ValueError, OverflowError, TypeError, RecursionError):
        raise UnfitError(f"{expected}, found {_start(raw)}...") from None
    if codes.ndim != (2 if many else 1) or not integers:
        raise UnfitError(f"{expected}, found {_start(raw)}...")
    if (many and codes.shape[0] != one.width) or codes.min() < one.lowest or codes.max() > last:
        found = f"{counted(codes.shape[0], 'list')} of {codes.shape[1]}" if many else counted(len(codes), "item")
        raise UnfitError(f"{expected}, found {found} in {codes.min()}..{codes.max()}")
    return codes


def _audio_string(line: OldLine, one: Field) -> bytes:
    text = line.text_of(one.name)
    last = one.lowest + one.codebook_size - 1
    expected = f"{one.name}: expected <audio_N>, N in {one.lowest}..{last}"
    if text is None or not AUDIO_STRING.fullmatch(text):
        raise UnfitError(f"{expected}, found {_start(line.values[one.name])}...")
    codes = np.array(AUDIO_NUMBER.findall(text), np.int64)
    if codes.min() < one.lowest or codes.max() > last:
        shifted = ": ids with the shift of 65536" if codes.min() >= 1 << 16 else ""
        raise UnfitError(f"{expected}, found {codes.min()}..{codes.max()}{shifted}")
    if len(codes) % GROUP or np.any((np.arange(len(codes)) % GROUP < FIRST) != (codes < CLUSTERS)):
        raise UnfitError(
            f"{one.name}: expected {FIRST} codes below {CLUSTERS}, then {GROUP - FIRST} from there on, in turns"
        )
    return b'"' + b"".join(b"<audio_%d>" % code for code in codes.tolist()) + b'"'
