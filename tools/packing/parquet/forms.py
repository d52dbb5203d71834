"""The forms in which a Parquet column holds audio, and the JSON that the hub makes of WebDataset's `json` members.

Files: a struct of `bytes` and `path` (what `datasets` calls Audio). Bytes alone, in a column with the name of a format
(`wav`, `flac`, `mp3`): WebDataset's. Samples: a struct of `array` and `sampling_rate`, as `datasets` decodes audio.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import pyarrow as pa

from audio_tokenizers.errors import InfrastructureError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.foreign_json import non_finite_numbers
from jobs.tar_reader import AUDIO_IN_MEMORY
from jobs.text_encoding import decode_text
from tools.packing.layouts.table_lines import decode_object, representable

__all__ = ["FORMS", "Form", "audio_of", "form_of", "is_bytes", "is_text", "record_of", "sniff", "text_of", "wav_of"]

Form = Literal["file", "bytes", "samples"]
FORMS: tuple[Form, ...] = get_args(Form)
PCM, FLOAT = 1, 3
"""WAV format codes of integers and floats."""
MOST_CHANNELS = 16
LARGEST_WAV = (1 << 32) - 1024
WHOLE_NUMBERS = (np.dtype(np.int16), np.dtype(np.int32))

MAGIC = (
    ("wav", 8, b"WAVE"),
    ("w64", 0, b"riff\x2e\x91\xcf\x11"),
    ("flac", 0, b"fLaC"),
    ("ogg", 0, b"OggS"),
    ("mp3", 0, b"ID3"),
    ("m4a", 4, b"ftyp"),
    ("aiff", 8, b"AIFF"),
    ("aifc", 8, b"AIFC"),
    ("au", 0, b".snd"),
    ("caf", 0, b"caff"),
    ("webm", 0, b"\x1a\x45\xdf\xa3"),
    ("amr", 0, b"#!AMR"),
    ("wma", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("sph", 0, b"NIST_1A"),
    ("ac3", 0, b"\x0b\x77"),
)
"""(extension, offset, bytes there)"""
LONGEST_MAGIC = 16


def form_of(name: str, kind: pa.DataType) -> Form | None:
    """How a column of this name and type holds audio; None if it does not look like audio."""
    if is_bytes(kind) and not pa.types.is_null(kind) and name.lower() in AUDIO_EXTENSIONS:
        return "bytes"
    if not pa.types.is_struct(kind):
        return None
    fields = {field.name: field.type for field in kind}
    data, path = fields.get("bytes"), fields.get("path")
    if data is not None and path is not None and is_bytes(data) and (is_text(path) or pa.types.is_null(path)):
        return "file"
    samples, rate = fields.get("array"), fields.get("sampling_rate")
    if samples is None or rate is None or not (pa.types.is_integer(rate) or pa.types.is_floating(rate)):
        return None
    inner = _inner(samples)
    return "samples" if _is_list(samples) and (pa.types.is_floating(inner) or pa.types.is_integer(inner)) else None


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, or the type is null."""
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null))


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _inner(kind: pa.DataType) -> pa.DataType:
    while _is_list(kind):
        kind = kind.value_type
    return kind


def text_of(value: object, decode: Callable[[bytes], str] = decode_text) -> str | None:
    """A column's string, or its bytes decoded. Raises UnicodeDecodeError with a readable reason."""
    return decode(value).strip() if isinstance(value, bytes) else value if isinstance(value, str) else None


def record_of(value: object, decode: Callable[[bytes], str] = decode_text) -> tuple[dict[str, Any], list[str]]:
    """(object of a `json` column, messages about values that JSON cannot hold): its struct, or its text parsed.

    Raises ValueError if it is no object.
    """
    faults: list[str] = []
    if isinstance(value, str | bytes):
        found = decode_object(text_of(value, decode) or "")
        faults = non_finite_numbers(found)
        value = representable(found)
    return ({key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else {}), faults


def wav_of(scalar: pa.StructScalar) -> bytes | str:
    """A WAV with exactly these samples, as 32-bit floats, or 64-bit ones if those would round; or an error message.

    `array` is [frames] or, as `datasets` has it, [channels][frames]; of 16- or 32-bit integers a WAV of these.
    """
    rate = scalar["sampling_rate"].as_py() if scalar.is_valid else None
    if not isinstance(rate, int | float) or not 0 < rate < 1 << 31 or rate != int(rate):
        return f"samples without a rate in Hz: {rate!r:.40}"
    channels = _channels(scalar["array"])
    if isinstance(channels, str):
        return channels
    samples = np.stack(channels, axis=1)
    if samples.dtype not in WHOLE_NUMBERS:
        if not np.issubdtype(samples.dtype, np.floating):
            return f"samples of type {samples.dtype}: expected floats, or integers of 16 or 32 bits"
        single = samples.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), samples.astype(np.float64), equal_nan=True)
        samples = single if exact else samples.astype(np.float64)
    data = samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()
    if len(data) > LARGEST_WAV:
        return f"{len(data):,} bytes of samples, more than a WAV may have"
    return _header(int(rate), len(channels), samples.dtype, len(data)) + data


def _channels(array: pa.Scalar) -> Sequence[np.ndarray[Any, Any]] | str:
    """The samples of each channel, or an error message."""
    values = array.values if array.is_valid else None
    if values is None or len(values) == 0:
        return "no samples"
    nested = _is_list(values.type)
    if nested and (_is_list(values.type.value_type) or len(values) > MOST_CHANNELS):
        return f"samples of {len(values):,} channels: expected [frames], or [channels][frames] of at most {MOST_CHANNELS}"
    rows = [value.values for value in values] if nested else [values]
    if any(row is None or row.null_count for row in rows):
        return "samples that are null"
    if len({len(row) for row in rows}) > 1:
        return "channels of different lengths"
    return [row.to_numpy(zero_copy_only=False) for row in rows] if len(rows[0]) else "no samples"


def _header(rate: int, channels: int, dtype: np.dtype[Any], size: int) -> bytes:
    kind = FLOAT if np.issubdtype(dtype, np.floating) else PCM
    frame = channels * dtype.itemsize
    fields = struct.pack("<HHIIHHH", kind, channels, rate, rate * frame & 0xFFFFFFFF, frame, 8 * dtype.itemsize, 0)
    chunks = struct.pack("<4sI", b"fmt ", len(fields)) + fields + struct.pack("<4sII", b"fact", 4, size // frame)
    return (
        struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + 8 + size + size % 2, b"WAVE")
        + chunks
        + struct.pack("<4sI", b"data", size)
    )


def audio_of(
    form: Form, column: str, scalar: pa.Scalar, path: str, locate: Callable[[str], Path | None]
) -> tuple[bytes | BinaryIO, int, str] | str:
    """(a row's audio, its size, its extension), or an error message. `locate` finds a file that the row only names.

    Raises InfrastructureError if such a file cannot be read.
    """
    if form == "samples":
        made = wav_of(scalar)
        return made if isinstance(made, str) else (made, len(made), "wav")
    data: bytes = b""
    if scalar.is_valid:
        data = (scalar if form == "bytes" else scalar["bytes"]).as_py() or b""
    if not data:
        return _located(path, locate)
    extension = column if form == "bytes" else posixpath.splitext(path)[1][1:]
    found = _extension(extension.lower(), data[:LONGEST_MAGIC])
    if found is None:
        return _unknown(data)
    return (data if len(data) <= AUDIO_IN_MEMORY else io.BytesIO(data)), len(data), found


def _located(path: str, locate: Callable[[str], Path | None]) -> tuple[bytes | BinaryIO, int, str] | str:
    """As `audio_of`, for a file that the row names."""
    if not path:
        return "neither bytes nor a path"
    try:
        found = locate(path)
        if found is None or not found.is_file():
            return f"no bytes, and no file {path} beside the Parquet file"
        file: BinaryIO = found.open("rb")
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}:
            return f"{path}: {error.strerror}"
        raise InfrastructureError(f"{path}: cannot be read: {error.strerror}") from error
    start = file.read(LONGEST_MAGIC)
    file.seek(0)
    extension = _extension(posixpath.splitext(path)[1][1:].lower(), start)
    if extension is not None and size > AUDIO_IN_MEMORY:
        return file, size, extension
    with file:
        return _unknown(start) if extension is None else (file.read(), size, extension)


def _extension(named: str, start: bytes) -> str | None:
    return named if named in AUDIO_EXTENSIONS else sniff(start)


def _unknown(start: bytes) -> str:
    return f"no audio format that is known begins with {start[:8].hex(' ') or 'nothing'}"


def sniff(start: bytes) -> str | None:
    """The extension of the audio format with this beginning."""
    for extension, offset, magic in MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return extension
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0:  # an MPEG frame; two bits name the layer
        return {0: "aac", 1: "mp3", 2: "mp2"}.get(start[1] >> 1 & 3)
    return None
