"""One committed file as one member of a merged file: a gzip member, a zstd frame or plain lines. In blocks, never whole."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.command_names import called
from tools.common.run_files import CommittedFile, check_hash, read_lines
from tools.merging.shapes import Shape, shape_line

__all__ = ["COMPRESSIONS", "Compression", "Made", "make_member"]

Compression = Literal["plain", "gz", "zst"]
COMPRESSIONS: Mapping[str, Compression] = {".jsonl": "plain", ".gz": "gz", ".zst": "zst"}
"""By the suffix of the output's name."""

BLOCK = 1 << 20
"""Block size for hash and compressor. Another size may give other compressed bytes."""
GZIP_LEVEL = 2
"""isal's level, of 0 to 3. On token lines it is as fast as 1 and smaller; 3 is slower and no smaller."""
GZIP_WINDOW = 15 + 16
"""The largest window, with a gzip header without name and time."""
ZSTD_WINDOW_LOG, ZSTD_HASH_LOG, ZSTD_MIN_MATCH = 17, 13, 7
"""zstd's level 1 for lines of tokens: short matches cost more than they save, and these tables stay in the CPU's cache."""

Put = Callable[[bytes], None]


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Made:
    """The result for one committed file."""

    lines: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Clips without a line, by kind."""


def make_member(
    file: CommittedFile,
    shape: Shape | None,
    compression: Compression,
    put: Put,
    *,
    tell: Callable[[int], None] = lambda _: None,
) -> Made:
    """Give the file's lines, in this shape or unchanged, to `put`, compressed; nothing if there are none.

    `tell` gets the bytes read, block by block. Raises InfrastructureError if the file cannot be read, or at its end, after
    all `put` calls, if it is not what was committed.
    """
    lines, left_out = file.manifest.clips, Counter[str]()
    compressor: _Compressor | None = None
    try:
        for block in _blocks(file, tell) if shape is None else _shaped_blocks(file, shape, left_out, tell):
            compressor = compressor or _compressor(compression)
            if data := compressor.compress(block):
                put(data)
    except OSError as error:
        raise InfrastructureError(f"{file.path}: cannot be read: {error.strerror}; run the same command again") from error
    if compressor is not None and (data := compressor.flush()):
        put(data)
    return Made(lines - left_out.total(), dict(sorted(left_out.items())))


def _compressor(compression: Compression) -> _Compressor:
    if compression == "gz":
        from isal import isal_zlib

        return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_WINDOW)
    return _zstd_compressor() if compression == "zst" else _Plain()


def _zstd_compressor() -> _Compressor:
    if sys.version_info >= (3, 14):
        from compression.zstd import CompressionParameter, ZstdCompressor
    else:
        from backports.zstd import CompressionParameter, ZstdCompressor

    options: dict[int, int] = {
        CompressionParameter.compression_level: 1,
        CompressionParameter.window_log: ZSTD_WINDOW_LOG,
        CompressionParameter.hash_log: ZSTD_HASH_LOG,
        CompressionParameter.min_match: ZSTD_MIN_MATCH,
        CompressionParameter.checksum_flag: 1,
    }
    return ZstdCompressor(options=options)


def _blocks(file: CommittedFile, tell: Callable[[int], None]) -> Iterator[memoryview]:
    """The file's blocks, in one buffer that each block overwrites."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    with file.path.open("rb") as lines:
        while size := lines.readinto(buffer):
            digest.update(buffer[:size])
            yield buffer[:size]
            tell(size)
    check_hash(file, digest.hexdigest())


def _shaped_blocks(
    file: CommittedFile, shape: Shape, left_out: Counter[str], tell: Callable[[int], None]
) -> Iterator[bytes]:
    held: list[bytes] = []
    size = read = 0
    for number, line in enumerate(read_lines(file), 1):
        try:
            made = shape_line(shape, line)
        except msgspec.DecodeError as error:
            raise InfrastructureError(
                f"{file.path}: line {number} is no record ({error}): see {called('tools.check_progress')} --check-validity"
            ) from None
        if isinstance(made, str):
            left_out[made] += 1
        else:
            held.append(made)
            size += len(made)
        read += len(line)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
            tell(read)
            read = 0
    if held:
        yield b"".join(held)
    tell(read)
