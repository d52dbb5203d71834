"""The float arrays of a tar's clips: NAME.safetensors, and how it is built during an attempt.

A safetensors file begins with a header of all its tensors, which is unknown before the last clip. An attempt therefore
appends bare arrays, in line order, to a private file beside its lines (named in jobs/ledger.py by the same rules); each line
holds the position and checksum of its arrays. A takeover copies the arrays that valid lines refer to. The commit writes the
header, copies the arrays behind it, under a private name again, and renames that.

Format: https://github.com/huggingface/safetensors (8 bytes of header length, a JSON header padded with spaces, the data).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from audio_tokenizers.base import Features
from audio_tokenizers.errors import UsageError
from jobs.any_json import decode_json
from jobs.fileops import FileOps
from jobs.record_fields import FeatureRef
from jobs.tar_paths import TarPaths

__all__ = ["FeatureFile", "FeatureSource", "StoredFeatures", "features_fault"]

COPY_BYTES = 4 << 20
HEADER_LENGTH = 8
DTYPES = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True, slots=True)
class Written:
    """A finished NAME.safetensors."""

    size: int
    sha256: str


class FeatureSource:
    """The arrays of an earlier attempt, read in order. There may be none."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | None = None
        with suppress(FileNotFoundError):
            self._file = path.open("rb")

    def read(self, refs: Sequence[FeatureRef]) -> list[bytes] | None:
        """The bytes of the next arrays; None if any of them is missing or damaged."""
        found = []
        for ref in refs:
            data = _read(self._file, ref) if self._file is not None else None
            if data is None:
                return None
            found.append(data)
        return found

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class FeatureFile:
    """One attempt's arrays of one tar."""

    def __init__(self, paths: TarPaths, attempt: str, ops: FileOps) -> None:
        self.private = paths.private_features(attempt)
        self.finished = paths.private_features(attempt, finished=True)
        self._ops = ops
        self._refs: list[FeatureRef] = []
        self._fd = ops.create(self.private)

    def append(self, refs: Iterable[FeatureRef], arrays: Iterable[bytes | Features]) -> None:
        """Append the arrays of one line, before the line itself is written."""
        for array in arrays:
            self._ops.write(self._fd, array if isinstance(array, bytes) else array.tobytes())
        self._refs.extend(refs)

    def sync(self) -> None:
        """Make all arrays so far survive a power loss."""
        self._ops.fsync(self._fd)

    def finish(self) -> Written:
        """Write the safetensors file, under the private name `finished`."""
        header = _header(self._refs)
        digest = hashlib.sha256(header)
        fd = self._ops.create(self.finished)
        try:
            self._ops.write(fd, header)
            size = len(header)
            with self.private.open("rb") as file:
                while piece := file.read(COPY_BYTES):
                    self._ops.write(fd, piece)
                    digest.update(piece)
                    size += len(piece)
            self._ops.fsync(fd)
        finally:
            os.close(fd)
        return Written(size, digest.hexdigest())

    def remove(self) -> None:
        """Remove both private names."""
        self._ops.unlink(self.private)
        self._ops.unlink(self.finished)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StoredFeatures:
    """The arrays of a committed NAME.safetensors, read one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        try:
            size = struct.unpack("<Q", self._file.read(HEADER_LENGTH))[0]
            self._tensors = decode_json(self._file.read(size if size <= _bytes_left(self._file) else 0), dict[str, Any])
        except (struct.error, msgspec.DecodeError):
            self._file.close()
            raise UsageError(f"{path}: expected a safetensors file, found something else: the run is damaged") from None
        self._start = HEADER_LENGTH + size

    def read(self, ref: FeatureRef) -> Features:
        """float16 or float32 [rows, width]. Raises UsageError if the array is not as its line says."""
        data = None
        # The header may hold anything.
        with suppress(KeyError, TypeError, IndexError, ValueError, OverflowError, OSError):
            self._file.seek(self._start + self._tensors[ref.key]["data_offsets"][0])
            data = _read(self._file, ref)
        if data is None:
            raise UsageError(f"{self._path}: the tensor {ref.key} is damaged or missing: check_progress --check-validity")
        return np.frombuffer(data, ref.dtype).reshape(ref.shape)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _bytes_left(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()


def _read(file: BinaryIO, ref: FeatureRef) -> bytes | None:
    """Read the next array; None if it is damaged or missing. A damaged line may claim more bytes than fit in memory."""
    data = file.read(ref.size) if ref.size <= _bytes_left(file) else b""
    return data if len(data) == ref.size and zlib.crc32(data) == ref.crc32 else None


def _header(refs: Iterable[FeatureRef]) -> bytes:
    tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for ref in refs:
        tensors[ref.key] = {
            "dtype": DTYPES[ref.dtype],
            "shape": list(ref.shape),
            "data_offsets": [offset, offset + ref.size],
        }
        offset += ref.size
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_LENGTH)
    return struct.pack("<Q", len(text)) + text


def features_fault(path: Path, refs: Sequence[FeatureRef], sha256: str) -> str | None:
    """What is wrong with a committed NAME.safetensors whose lines hold `refs`, or None; a missing file is a fault, too."""
    header = _header(refs)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                return f"{path.name} has another header than its lines ask for"
            digest.update(header)
            for ref in refs:
                data = file.read(ref.size)
                if zlib.crc32(data) != ref.crc32:
                    return f"{path.name}: the tensor {ref.key} is damaged or cut"
                digest.update(data)
            if file.read(1):
                return f"{path.name} is longer than its lines ask for"
    except FileNotFoundError:
        return f"{path.name} is missing"
    if digest.hexdigest() != sha256:
        return f"the sha256 of {path.name} is {digest.hexdigest()[:16]}..., its manifest says {sha256[:16]}..."
    return None
