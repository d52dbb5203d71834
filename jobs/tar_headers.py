"""Header blocks of tars, and extended headers, which describe the next member. Pure: bytes -> values, or ValueError."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BLOCK",
    "EXTENDED",
    "GNU_SPARSE",
    "HARD_LINK",
    "PAX_GLOBAL",
    "PLAIN_FILE",
    "WITHOUT_DATA",
    "Extended",
    "MemberKind",
    "checksum_fits",
    "decimal",
    "header_name",
    "header_target",
    "kind_of",
    "number",
    "parse_pax",
]

MemberKind = Literal["file", "directory", "link", "sparse", "other"]

BLOCK = 512
PLAIN_FILE = {b"0", b"\0"}
HARD_LINK, SYMBOLIC_LINK = b"1", b"2"
WITHOUT_DATA = {b"1", b"2", b"3", b"4", b"5", b"6"}
NO_FILES = {*WITHOUT_DATA, b"D", b"M", b"N", b"V"}
"""Links, devices and folders; for GNU tar also folder lists, continuations from another volume, and labels. All other types
are files: POSIX requires that for unknown types, and tar programs comply.
"""
GNU_LONG_NAME, GNU_LONG_LINK, GNU_SPARSE = b"L", b"K", b"S"
PAX_NEXT, PAX_GLOBAL, PAX_SOLARIS = b"x", b"g", b"X"
EXTENDED = {GNU_LONG_NAME, GNU_LONG_LINK, PAX_NEXT, PAX_GLOBAL, PAX_SOLARIS}
SPARSE_PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
SPARSE_MAP = b"GNU.sparse.map"


@dataclass(slots=True)
class Extended:
    """The content of the extended headers before a member."""

    name: bytes | None = None
    """From a GNU long name."""
    target: bytes | None = None
    """From a GNU long link name."""
    pax: dict[bytes, bytes] = field(default_factory=dict)

    def take(self, type_flag: bytes, data: bytes) -> None:
        """Add an extended header that is not global. Raises ValueError."""
        if type_flag == GNU_LONG_NAME:
            self.name = data.partition(b"\0")[0]
        elif type_flag == GNU_LONG_LINK:
            self.target = data.partition(b"\0")[0]
        else:
            self.pax.update(parse_pax(data))


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Parse lines of the form `LENGTH KEY=VALUE`, where LENGTH counts the whole line with its newline. Raises ValueError.

    The repeated keys of a sparse map of version 0.0 become the one key of version 0.1.
    """
    found: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    position = 0
    data = data.rstrip(b"\0")
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = decimal(data[position:space]) if space > 0 else 0
        record = data[space + 1 : position + length]
        if not 5 <= length <= len(data) - position or not record.endswith(b"\n") or b"=" not in record:
            raise ValueError("is damaged")
        key, _, value = record[:-1].partition(b"=")
        if key in SPARSE_PAIR:
            pairs.append(value)
        found[key] = value
        position += length
    return {**found, SPARSE_MAP: b",".join(pairs)} if pairs else found


def decimal(text: bytes) -> int:
    """Parse a number of a pax header. Raises ValueError."""
    if not text.isdigit() or len(text) > 20:
        raise ValueError(f"has no valid number: {text[:20]!r}")
    return int(text)


def number(text: bytes) -> int:
    """Parse a numeric header field: octal text, or base 256 if the top bit is set (GNU). Raises ValueError."""
    if text[0] & 0x80:
        value = int.from_bytes(text, "big") - (0x80 << (8 * (len(text) - 1)))
        if text[0] == 0xFF or value > 1 << 62:
            raise ValueError("negative or absurd size")
        return value
    text = text.partition(b"\0")[0].strip(b" ")
    if text and not text.isdigit():  # int() takes signs, underscores and `0o` too
        raise ValueError("not octal")
    return int(text, 8) if text else 0


def checksum_fits(header: bytes) -> bool:
    """Whether a block is a header: its checksum matches."""
    try:
        stated = number(header[148:156])
    except ValueError:
        return False
    # The checksum field counts as spaces; old writers summed signed chars.
    unsigned = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if stated == unsigned:
        return True
    return stated == unsigned - 256 * sum(1 for byte in header[:148] + header[156:] if byte > 127)


def header_name(header: bytes) -> bytes:
    """The member's name, or what fits of it in the header."""
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU's magic is `ustar `; it uses the space of POSIX's prefix for other fields
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            return prefix + b"/" + name
    return name


def header_target(header: bytes) -> bytes:
    """A link's target, or what fits of it in the header."""
    return header[157:257].partition(b"\0")[0]


def kind_of(type_flag: bytes, name: bytes) -> MemberKind:
    """The kind of a member. In old archives only a trailing slash marks a folder."""
    if type_flag in (HARD_LINK, SYMBOLIC_LINK):
        return "link"
    if type_flag == b"5" or (type_flag not in NO_FILES and name.endswith(b"/")):
        return "directory"
    return "other" if type_flag in NO_FILES else "file"
