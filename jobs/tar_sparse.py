"""Sparse members of tars: files whose holes are not stored, restored with zeros in their places.

GNU tar writes four forms: type S with a map in the header ("old GNU"), and pax headers of versions 0.0, 0.1 and 1.0 (GNU tar
manual, "Storing Sparse Files"). A map that tar programs interpret differently is rejected, and the member says why.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from audio_tokenizers.shared.wording import counted
from jobs.tar_headers import BLOCK, decimal, number

__all__ = ["SPARSE_KEY", "Restored", "SparseMap", "is_gnu_sparse", "is_pax_sparse", "read_gnu_map", "read_pax_map"]

LARGEST_HOLES = 1 << 30
"""Limit of zeros generated for one member: a few bytes of a map may promise terabytes."""
MOST_PIECES = 1 << 20
"""16 MiB of memory. Enough for a file of 8 GiB that alternates 4 KiB of data and 4 KiB of hole."""
LONGEST_NUMBER = 20
"""Digits."""

SPARSE_KEY = b"GNU.sparse."
GNU_MAGIC, MAGIC_AT = b"ustar  \0", 257
PIECES_AT, PIECES_IN_HEADER = 386, 4
PIECES_IN_EXTENSION = 21
MORE_AT, MORE_AT_IN_EXTENSION = 482, 504
REAL_SIZE = slice(483, 495)
STAR_MAGIC, STAR_MAGIC_AT = b"tar\0", 508


@dataclass(slots=True)
class SparseMap:
    """The positions of a file's stored pieces. `fault` says why the file cannot be restored."""

    size: int = 0
    """Bytes of the file, including its holes."""
    begins: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    stored: int = 0
    """Bytes of all pieces."""
    fault: str = ""

    def add(self, begin: int, length: int) -> None:
        """Add the next piece, in stored order."""
        last = self.ends[-1] if self.ends else 0
        if begin < last:
            self.fault = self.fault or "its map has pieces out of order"
        elif self.stored % BLOCK and length:
            self.fault = self.fault or "its map has pieces that are not whole blocks, which tar programs read differently"
        elif len(self.begins) >= MOST_PIECES:
            self.fault = self.fault or f"its map has more than {counted(MOST_PIECES, 'piece')}"
        elif max(begin, length, begin + length) >= 1 << 63:
            self.fault = self.fault or "its map has numbers that no file can have"
        if not self.fault:
            self.begins.append(begin)
            self.ends.append(begin + length)
            self.stored += length

    def judge(self, data_bytes: int) -> None:
        """Check a complete map and set `fault`; `data_bytes` follow the map in the tar."""
        if self.fault:
            return
        if not self.begins and data_bytes:
            self.fault = "its map is empty and data follows, which tar programs read differently"
        elif self.ends and self.ends[-1] > self.size:
            self.fault = f"its map goes beyond its size of {counted(self.size, 'byte')}"
        elif self.stored != data_bytes:
            self.fault = f"its map has {counted(self.stored, 'byte')} of data, and {data_bytes:,} follow"
        elif self.size - self.stored > LARGEST_HOLES:
            self.fault = f"its map promises {counted(self.size - self.stored, 'byte')} of holes, more than {LARGEST_HOLES:,}"


class Restored:
    """Reads a sparse member as the original file."""

    def __init__(self, found: SparseMap, read: Callable[[int], bytes]) -> None:
        """`read` returns exactly the given number of stored bytes, or raises."""
        self._map = found
        self._read = read
        self._at = 0
        self._piece = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        pieces = []
        left = min(size, self._map.size - self._at)
        while left:
            begin, end = self._current()
            if self._at < begin:
                pieces.append(bytes(min(left, begin - self._at)))
            else:
                pieces.append(self._read(min(left, end - self._at)))
            self._at += len(pieces[-1])
            left -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _current(self) -> tuple[int, int]:
        """(begin, end) of the first piece that ends after the position; after the last one, an empty piece at the end."""
        ends = self._map.ends
        while self._piece < len(ends) and ends[self._piece] <= self._at:
            self._piece += 1
        if self._piece == len(ends):
            return self._map.size, self._map.size
        return self._map.begins[self._piece], ends[self._piece]


def is_gnu_sparse(header: bytes) -> bool:
    """Whether a header of type S has a map. With another magic, tar programs treat it as a plain file.

    Raises ValueError for star's form, whose map is elsewhere.
    """
    if header[STAR_MAGIC_AT:] == STAR_MAGIC:
        raise ValueError("it is a sparse member in the form of star, which is not read: pack it again")
    return header[MAGIC_AT : MAGIC_AT + len(GNU_MAGIC)] == GNU_MAGIC


def read_gnu_map(header: bytes, data_bytes: int, read_block: Callable[[], bytes]) -> SparseMap:
    """The map of an "old GNU" member; `read_block` returns the map's blocks after the header.

    As in GNU tar, it ends at the first empty piece, whatever else the header says. Raises ValueError for an invalid map.
    """
    found = SparseMap(number(header[REAL_SIZE]))
    more = _add_pieces(found, header[PIECES_AT:MORE_AT]) and header[MORE_AT]
    while more:
        block = read_block()
        more = _add_pieces(found, block[:MORE_AT_IN_EXTENSION]) and block[MORE_AT_IN_EXTENSION]
    found.judge(data_bytes)
    return found


def _add_pieces(found: SparseMap, entries: bytes) -> bool:
    """Add pieces up to the first empty entry. Returns whether there was none: the map may continue."""
    for at in range(0, len(entries), 24):
        if not entries[at + 12]:
            return False
        found.add(number(entries[at : at + 12]), number(entries[at + 12 : at + 24]))
    return True


def is_pax_sparse(attributes: Mapping[bytes, bytes]) -> bool:
    """Whether pax attributes describe a sparse member."""
    return any(key.startswith(SPARSE_KEY) for key in attributes)


def read_pax_map(attributes: Mapping[bytes, bytes], data_bytes: int, read: Callable[[int], bytes]) -> SparseMap:
    """The map of a pax member of any version. `read` returns the member's data, which begins with the map in version 1.0.

    GNU.sparse.map has the pairs of version 0.0, too. An invalid map sets `fault`.
    """
    found = SparseMap()
    try:
        found.size = decimal(attributes.get(b"GNU.sparse.realsize") or attributes[b"GNU.sparse.size"])
        version = (attributes.get(b"GNU.sparse.major", b"0"), attributes.get(b"GNU.sparse.minor", b"0"))
        if version == (b"1", b"0"):
            data_bytes -= _read_map_in_data(found, data_bytes, read)
        elif version[0] == b"0":
            numbers = attributes[b"GNU.sparse.map"].split(b",", 2 * MOST_PIECES + 2)
            if len(numbers) % 2:
                raise ValueError
            for begin, length in zip(numbers[::2], numbers[1::2], strict=True):
                found.add(decimal(begin), decimal(length))
        else:
            found.fault = "its map is of a version that is not known"
    except (KeyError, ValueError):
        found.fault = found.fault or "it has no valid map"
    found.judge(data_bytes)
    return found


def _read_map_in_data(found: SparseMap, data_bytes: int, read: Callable[[int], bytes]) -> int:
    """Version 1.0: one decimal number per line, padded to whole blocks. Returns the number of bytes read."""
    taken = 0
    rest = b""

    def line() -> int:
        nonlocal taken, rest
        while b"\n" not in rest:
            if taken >= data_bytes or len(rest) > LONGEST_NUMBER:
                raise ValueError
            block = read(min(BLOCK, data_bytes - taken))
            taken += len(block)
            rest += block
        first, _, rest = rest.partition(b"\n")
        return decimal(first)

    pieces = line()
    if pieces > MOST_PIECES:
        found.fault = f"its map has more than {counted(MOST_PIECES, 'piece')}"
        return taken
    for _ in range(pieces):
        begin = line()
        found.add(begin, line())
    return taken
