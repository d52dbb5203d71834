"""Check whether a Matroska or WebM file is whole: if so, a gap between its times was in the recording; if not, it is damage.

Sources: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations

import io
from typing import Protocol

__all__ = ["is_whole_matroska"]

EBML, SEGMENT, CLUSTER, BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
VOID, CHECKSUM = 0xEC, 0xBF
IN_SEGMENT = {0x114D9B74, 0x1549A966, 0x1654AE6B, CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
IN_CLUSTER = {0xE7, 0xA3, BLOCK_GROUP, 0xAB, 0xA7, 0x5854, 0xAF}
IN_GROUP = {0xA1, 0x9B, 0xFB, 0x75A1, 0x75A2, 0xFA, 0xFD, 0xA4, 0x8E}
CHILDREN = {SEGMENT: IN_SEGMENT, CLUSTER: IN_CLUSTER, BLOCK_GROUP: IN_GROUP}


class _Readable(Protocol):
    def read(self, size: int = -1) -> bytes: ...
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int: ...


def is_whole_matroska(file: _Readable) -> bool:
    """Whether valid elements in valid places fill the file from its first byte to its last. Payloads are not checked."""
    end = file.seek(0, io.SEEK_END)
    at = 0
    parents: list[tuple[int, int, bool]] = []
    """(name, end, whether the end is unknown) of each enclosing element, outermost first."""
    while at < end:
        while parents and at >= parents[-1][1]:
            if at > parents[-1][1]:
                return False
            parents.pop()
        file.seek(at)
        head = file.read(12)
        name, length = _number(head, 0, keep_marker=True)
        size, size_length = _number(head, length, keep_marker=False)
        if not length or not size_length or length > 4:
            return False
        while parents and parents[-1][2] and not _may_stand_in(name, parents[-1][0]):
            parents.pop()
        if not _may_stand_in(name, parents[-1][0] if parents else 0):
            return False
        at += length + size_length
        unknown = size == (1 << 7 * size_length) - 1
        limit = parents[-1][1] if parents else end
        if unknown and name not in (SEGMENT, CLUSTER):
            return False
        if not unknown and at + size > limit:
            return False
        if name in CHILDREN:
            parents.append((name, limit if unknown else at + size, unknown))
        else:
            at += size
    return at == end


def _may_stand_in(name: int, parent: int) -> bool:
    return name in (CHILDREN[parent] if parent else {EBML, SEGMENT}) or name in (VOID, CHECKSUM)


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A variable-size integer and its length in bytes; (0, 0) if there is none."""
    if at >= len(data) or not data[at]:
        return 0, 0
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return 0, 0
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & (1 << 7 * length) - 1), length
