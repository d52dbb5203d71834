"""Typed lines: encoding, decoding and checks.

One line per clip, in tar order: a TokenRecord or an ErrorRecord. Values stay raw JSON in both directions: orjson writes
codes directly from the array, and `token_fault` checks the text with a few array operations; neither creates a Python object
per token. The spec decides which keys a run's records have: see jobs/record_fields.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from audio_tokenizers.base import Codes
from audio_tokenizers.errors import ErrorKind
from audio_tokenizers.shared.wording import counted
from jobs.damage import Damage

__all__ = [
    "ErrorRecord",
    "Record",
    "Tally",
    "TokenRecord",
    "codes_to_json",
    "decode_record",
    "encode_record",
    "line_parts",
    "token_fault",
    "tokens_are_valid",
    "with_tar_file",
]

_DIGITS = b"0123456789"
_OPEN, _CLOSE = ord("[") - ord("0"), ord("]") - ord("0")
_TOKENS_START = b'"tokens":[['
_TOKENS_END = b']],"token_shape":'


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A clip with its tokens, or other values."""

    tar_file: str
    audio_file: str
    num_samples: int
    """Samples at `sample_rate`, after resampling."""
    sample_rate: int
    """Hz: the backend's rate, not the file's."""
    values: dict[str, msgspec.Raw]
    """JSON by key, as in the line: for a codec `tokens` and `token_shape`."""
    damage: Damage | None = None
    """The missing part of the clip, if any."""
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    """How mixing changed the clip, or that another tool made its tokens: jobs/channels.py."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The start of a line. It includes `damage`: counting lines needs nothing beyond the tokens."""

    tar_file: str
    audio_file: str
    num_samples: int
    sample_rate: int
    damage: Damage | None = None


class _Tail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of a line."""

    notes: tuple[str, ...] = ()
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | msgspec.Raw | None = None


_NumSamples = Annotated[int, msgspec.Meta(ge=0)]
_SampleRate = Annotated[int, msgspec.Meta(gt=0)]
"""Positive: readers divide by it."""


class _CommonLine(msgspec.Struct, frozen=True):
    """The keys common to all lines but errors."""

    tar_file: str
    audio_file: str
    num_samples: _NumSamples
    sample_rate: _SampleRate
    damage: Damage | None = None
    notes: tuple[str, ...] = ()
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | None = None


class _CodesLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a codec's line, which decodes faster than the general form."""

    tar_file: str
    audio_file: str
    num_samples: _NumSamples
    sample_rate: _SampleRate
    tokens: msgspec.Raw
    token_shape: msgspec.Raw
    damage: Damage | None = None
    notes: tuple[str, ...] = ()
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | None = None


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A clip that could not be tokenized, and why: always bad data, never machine trouble."""

    tar_file: str
    audio_file: str
    error: str
    error_kind: ErrorKind


Record = TokenRecord | ErrorRecord


class Tally:
    """Running counts over the lines of one output file."""

    def __init__(self) -> None:
        self.clips = 0
        self.errors: dict[str, int] = {}
        self.damaged_clips = 0
        self.damaged_seconds = 0.0
        self.notes: dict[str, int] = {}
        self.audio_seconds = 0.0

    def add(self, record: Record) -> None:
        """Count one line."""
        self.clips += 1
        if isinstance(record, ErrorRecord):
            self.errors[record.error_kind] = self.errors.get(record.error_kind, 0) + 1
        else:
            self.audio_seconds += record.num_samples / record.sample_rate
            if record.damage is not None:
                self.damaged_clips += 1
                self.damaged_seconds += record.damage.seconds
            for note in record.notes:
                self.notes[note] = self.notes.get(note, 0) + 1


_encoder = msgspec.json.Encoder()
_codes_decoder = msgspec.json.Decoder(_CodesLine)
_error_decoder = msgspec.json.Decoder(ErrorRecord)
_common_decoder = msgspec.json.Decoder(_CommonLine)
_any_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def codes_to_json(codes: Codes) -> bytes:
    """JSON text of integers [frames] or [codebooks, frames]."""
    return orjson.dumps(np.ascontiguousarray(codes), option=orjson.OPT_SERIALIZE_NUMPY)


def encode_record(record: Record) -> bytes:
    """One line, without its newline."""
    if isinstance(record, ErrorRecord):
        return _encoder.encode(record)
    return b"".join(line_parts(record, ((key, (bytes(value),)) for key, value in record.values.items())))


def line_parts(
    record: TokenRecord, values: Iterable[tuple[str, Iterable[bytes]]], metadata_json: bytes | None = None
) -> Iterator[bytes]:
    """Yield the line in pieces. `values` (key -> JSON in pieces) replaces `record.values`; `metadata_json`, if given,
    replaces `record.metadata`.
    """
    head = _Head(record.tar_file, record.audio_file, record.num_samples, record.sample_rate, record.damage)
    yield _encoder.encode(head)[:-1]
    for key, pieces in values:
        yield b"," + _encoder.encode(key) + b":"
        yield from pieces
    metadata = record.metadata if metadata_json is None else msgspec.Raw(metadata_json)
    tail = _encoder.encode(_Tail(record.notes, record.text, record.language, metadata))
    yield b"}" if tail == b"{}" else b"," + tail[1:]


def with_tar_file(line: bytes, record: Record, tar_file: str) -> bytes | None:
    """The line of `record` with another `tar_file`; None if the line does not begin like ours."""
    before, after = (_encoder.encode({"tar_file": name})[:-1] for name in (record.tar_file, tar_file))
    if not line.startswith(before + b","):
        return None
    return line if after == before else after + line[len(before) :]


def decode_record(line: bytes) -> Record:
    """Decode one line by type, except the content of `values`, which jobs/record_fields.py checks.

    Raises msgspec.DecodeError (or its subclass ValidationError) for anything else.
    """
    try:
        # Nine tenths of a codec's line are tokens. Cut them out first: a JSON parser would skip them slowly.
        start = line.find(_TOKENS_START) + len(_TOKENS_START) - len(b"[[")
        end = line.rfind(_TOKENS_END) + len(b"]]")
        if len(b"[[") <= start < end:
            with contextlib.suppress(msgspec.DecodeError):
                codes = _codes_decoder.decode(line[:start] + b"[]" + line[end:])
                if bytes(codes.tokens) == b"[]":  # the cut was at the key itself, not inside `metadata`
                    return _token_record(codes, {"tokens": msgspec.Raw(line[start:end]), "token_shape": codes.token_shape})
        values = _any_decoder.decode(line)
        if "error" in values:
            return _error_decoder.decode(line)
        common = _common_decoder.decode(line)
        return _token_record(common, {key: value for key, value in values.items() if key not in common.__struct_fields__})
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _token_record(line: _CommonLine | _CodesLine, values: dict[str, msgspec.Raw]) -> TokenRecord:
    return TokenRecord(
        tar_file=line.tar_file,
        audio_file=line.audio_file,
        num_samples=line.num_samples,
        sample_rate=line.sample_rate,
        values=values,
        damage=line.damage,
        text=line.text,
        language=line.language,
        metadata=line.metadata,
        notes=line.notes,
    )


@functools.lru_cache(maxsize=256)
def _punctuation(shape: tuple[int, int]) -> bytes:
    """The tokens' text without digits."""
    codebooks, frames = shape
    return b"[[" + b"],[".join([b"," * (frames - 1)] * codebooks) + b"]]"


def tokens_are_valid(texts: Sequence[bytes], shapes: Sequence[tuple[int, int]], codebook_size: int) -> bool:
    """Whether each JSON text is a list of shape[0] lists of shape[1] integers in 0..codebook_size-1, without spaces.

    That is exactly what `codes_to_json` writes. Many clips in one call are many times faster than one by one: each step is
    an array operation over all of them.
    """
    for text, (codebooks, frames) in zip(texts, shapes, strict=True):
        # Check the length first: a damaged line may claim a shape too large for memory.
        if codebooks < 1 or frames < 1 or len(text) <= 2 * codebooks * frames:
            return False
    joined = b"".join(texts)
    outside = joined[:1].isdigit() or joined[-1:].isdigit()  # the array operations look between the first and the last
    if outside or joined.translate(None, _DIGITS) != b"".join(map(_punctuation, shapes)):
        return False
    digits = np.frombuffer(joined, np.uint8) - ord("0")  # uint8: other characters become 10 or more
    is_digit = digits < 10
    ends = is_digit[1:-1] & ~is_digit[2:]  # True where a number ends
    if np.count_nonzero(ends) != sum(codebooks * frames for codebooks, frames in shapes):
        return False
    starts = is_digit[1:-1] & ~is_digit[:-2]
    # Every slot holds a number if none is misplaced: before a `[` or after a `]`.
    if np.any(ends & (digits[2:] == _OPEN)) or np.any(starts & (digits[:-2] == _CLOSE)):
        return False
    if np.any((starts > ends) & (digits[1:-1] == 0)):  # a leading zero
        return False
    width = len(str(codebook_size - 1))
    places = max(len(digits) - width + 1, 0)
    run = is_digit[:places].copy()  # True where `width` digits begin
    for k in range(1, width):
        run &= is_digit[k : places + k]
    longest = np.flatnonzero(run)
    values: npt.NDArray[np.signedinteger[Any]] = np.zeros(len(longest), np.int64)
    for k in range(width):
        values = values * 10 + digits[longest + k]
    return not np.any(is_digit[longest + width]) and not np.any(values >= codebook_size)


def token_fault(tokens: bytes | memoryview, shape: tuple[int, int], codebook_size: int) -> str | None:
    """What is wrong with the JSON text of one clip's tokens, or None, by the rules of `tokens_are_valid`."""
    text = bytes(tokens)
    if tokens_are_valid([text], [shape], codebook_size):
        return None
    expected = f"expected {counted(shape[0], 'list')} of {counted(shape[1], 'integer')} in 0..{codebook_size - 1}"
    try:
        rows = orjson.loads(text)
        values = [value for row in rows for value in row]
        lengths = {len(row) for row in rows}
    except (orjson.JSONDecodeError, TypeError):
        return f"{expected}, found {text[:30].decode(errors='backslashreplace')}..."
    if not all(type(value) is int for value in values) or not values:
        return f"{expected}, found other values"
    return f"{expected}, found {counted(len(rows), 'list')} of {sorted(lengths)} in {min(values)}..{max(values)}"
