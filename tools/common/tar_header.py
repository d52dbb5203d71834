"""Reproducible headers of tar members, made faster than by tarfile, which takes 20 microseconds for one."""

from __future__ import annotations

import functools
import tarfile

__all__ = ["tar_header"]

NAME_BYTES = 100
CHECKSUM_AT, CHECKSUM_BYTES = 148, 8


def tar_header(name: str, size: int) -> bytes:
    """The header that tarfile makes of a regular file, in GNU format, without owner and time. `name` may have surrogates."""
    data = name.encode("utf-8", "surrogateescape")
    if len(data) >= NAME_BYTES:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    before, total, after = _nameless_header(size)
    return b"%s%s%s%06o\0 %s" % (data, bytes(NAME_BYTES - len(data)), before, total + sum(data), after)


@functools.lru_cache(maxsize=4096)
def _nameless_header(size: int) -> tuple[bytes, int, bytes]:
    """(bytes between name and checksum, sum of all bytes except the name, bytes after the checksum)."""
    info = tarfile.TarInfo("")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    before, after = header[NAME_BYTES:CHECKSUM_AT], header[CHECKSUM_AT + CHECKSUM_BYTES :]
    return before, sum(before) + CHECKSUM_BYTES * ord(" ") + sum(after), after
