"""Typed lines and manifests: how they are written, read and checked.

One line per clip, in tar order: a TokenRecord or an ErrorRecord. Tokens are kept as raw JSON on both sides: orjson writes
them straight from the array, and `token_fault` checks the text with a few array operations, so that neither direction
makes a Python object per token.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import orjson

from audio_tokenizers.base import Codes
from audio_tokenizers.errors import ErrorKind

__all__ = [
    "ErrorRecord",
    "Manifest",
    "Record",
    "Tally",
    "TokenRecord",
    "codes_to_json",
    "decode_record",
    "encode_record",
    "split_at_tokens",
    "token_fault",
]

MANIFEST_FORMAT = 1
VERDICT_COMPLETE = "complete"
VERDICT_IN_PROGRESS = "in_progress"

_DIGITS = b"0123456789"
_NO_TOKENS = msgspec.Raw(b"[]")
_TOKENS_HOLE = b'"tokens":[]'


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A clip's tokens. `tokens` is JSON: `codebooks` lists of `frames` integers each."""

    tar_file: str
    audio_file: str
    num_samples: int
    """Samples at `sample_rate`, after resampling."""
    sample_rate: int
    """Hz: the backend's rate, not the file's."""
    tokens: msgspec.Raw
    token_shape: tuple[int, int]
    """[codebooks, frames]"""
    text: str | None = None
    language: str | None = None
    metadata: dict[str, Any] | None = None


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A clip that could not be tokenized, and why: bad data, never trouble with the machine."""

    tar_file: str
    audio_file: str
    error: str
    error_kind: ErrorKind


Record = TokenRecord | ErrorRecord


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one tar's output. Written when an attempt starts and ends; its last version before the commit."""

    format: int = MANIFEST_FORMAT
    tar_file: str
    input_bytes: int
    input_mtime_ns: int
    fingerprint: str
    verdict: str = VERDICT_IN_PROGRESS
    """`complete`, `in_progress`, or how the tar is broken (tar_reader.Verdict)."""
    verdict_detail: str = ""
    verdict_offset: int | None = None
    """Byte of the uncompressed tar at which it broke."""
    clips: int = 0
    errors: dict[str, int] = {}
    """Error records by kind."""
    audio_seconds: float = 0.0
    """Audio that became tokens."""
    wall_seconds: float = 0.0
    """Time of all attempts that ended by themselves."""
    output_bytes: int = 0
    output_sha256: str = ""
    attempt: str = ""
    ignored_members: dict[str, int] = {}
    """Members that are no clips, by reason: directory, link, appledouble, other."""
    orphan_sidecars: int = 0
    """Sidecar files with no audio of the same key beside them."""
    sidecar_faults: int = 0
    """Sidecar files that could not be read; their clips' records say so."""
    versions: dict[str, str] = {}


class Tally:
    """Running counts over the lines of one output file."""

    def __init__(self) -> None:
        self.clips = 0
        self.errors: dict[str, int] = {}
        self.audio_seconds = 0.0

    def add(self, record: Record) -> None:
        """Count one line."""
        self.clips += 1
        if isinstance(record, ErrorRecord):
            self.errors[record.error_kind] = self.errors.get(record.error_kind, 0) + 1
        else:
            self.audio_seconds += record.num_samples / record.sample_rate


_encoder = msgspec.json.Encoder()
_token_decoder = msgspec.json.Decoder(TokenRecord)
_error_decoder = msgspec.json.Decoder(ErrorRecord)


def codes_to_json(codes: Codes) -> bytes:
    """JSON text of integers [frames] or [codebooks, frames]."""
    return orjson.dumps(np.ascontiguousarray(codes), option=orjson.OPT_SERIALIZE_NUMPY)


def encode_record(record: Record) -> bytes:
    """One line, without its newline."""
    return _encoder.encode(record)


def split_at_tokens(record: TokenRecord) -> tuple[bytes, bytes]:
    """The line's bytes before and after the value of `tokens`, whatever that is in `record`."""
    line = _encoder.encode(msgspec.structs.replace(record, tokens=_NO_TOKENS))
    # A quote inside a JSON string is escaped, so the first match is the key itself.
    cut = line.index(_TOKENS_HOLE) + len(_TOKENS_HOLE) - len(b"[]")
    return line[:cut], line[cut + len(b"[]") :]


def decode_record(line: bytes | memoryview) -> Record:
    """Decode one line by type. Tokens are syntactically valid JSON; `token_fault` checks what they are.

    Raises msgspec.DecodeError (of which ValidationError is one) on anything else.
    """
    try:
        return _token_decoder.decode(line)
    except msgspec.ValidationError as not_tokens:
        try:
            return _error_decoder.decode(line)
        except msgspec.ValidationError:
            raise not_tokens from None


@functools.lru_cache(maxsize=64)
def _row_punctuation(frames: int) -> bytes:
    return b"," * max(frames - 1, 0)


def token_fault(tokens: bytes | memoryview, shape: tuple[int, int], codebook_size: int) -> str | None:
    """What is wrong with the JSON text of a clip's tokens, or None.

    The text must be a list of shape[0] lists of shape[1] integers in 0..codebook_size-1, written without spaces, as
    `codes_to_json` writes it. `shape` has at least one frame.
    """
    text = bytes(tokens)
    codebooks, frames = shape
    row = _row_punctuation(frames)
    if text.translate(None, _DIGITS) != b"[[" + b"],[".join([row] * codebooks) + b"]]":
        return f"tokens are not {codebooks} lists of {frames} integers"
    chars = np.frombuffer(text, np.uint8)
    is_digit = chars <= ord("9")
    is_digit &= chars >= ord("0")
    after_number = np.flatnonzero(is_digit[:-1] & ~is_digit[1:]) + 1
    if len(after_number) != codebooks * frames:
        return "tokens have empty places"
    width = len(str(codebook_size - 1))
    # run[i]: the `width` characters before position i + width are all digits
    run = is_digit[: len(chars) - width + 1].copy()
    for k in range(1, width):
        run &= is_digit[k : len(chars) - width + 1 + k]
    starts = np.flatnonzero(run)
    if np.any(is_digit[starts + width]):
        return f"a token is larger than {codebook_size - 1}"
    values = np.zeros(len(starts), np.int64)
    for k in range(width):
        values = values * 10 + (chars[starts + k] - ord("0"))
    if np.any(values >= codebook_size):
        return f"token {int(values.max())} is larger than {codebook_size - 1}"
    return None
