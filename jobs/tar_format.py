"""The tar format, read strictly: one streaming pass over member headers and data, and a proper end or a TarDamage.

Python's `tarfile` stops without an error at a broken header, at zeroes inside the archive and at a cut between members, so
it cannot tell a complete archive from a damaged one. This reader accepts what POSIX (IEEE Std 1003.1, pax) and GNU tar
write, and says at which byte anything else begins.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Literal

from audio_tokenizers.words import counted
from jobs.tar_source import READ_BYTES, TarSource, open_tar

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdError, ZstdFile
else:
    from backports.zstd import DecompressionParameter, ZstdError, ZstdFile

__all__ = ["ACCEPTABLE", "Member", "MemberKind", "TarDamage", "TarStream", "Verdict"]

Verdict = Literal[
    "empty_file", "not_a_tar", "cut", "bad_header", "data_after_end", "bad_compression", "no_end_marker", "zero_tail"
]
ACCEPTABLE: tuple[Verdict, ...] = ("no_end_marker", "zero_tail")
"""What may be a whole tar all the same, if somebody says so."""
MemberKind = Literal["file", "directory", "link", "sparse", "other"]

BLOCK = 512
END_BLOCKS = 2
LONGEST_END = 2 << 20
"""Writers fill their last record with zeros; records are 10 KiB unless told otherwise, and never this large."""
LARGEST_EXTENDED_HEADER = 16 << 20
LARGEST_ZSTD_WINDOW_LOG = 31
"""`zstd --long=31`; a reader that says nothing refuses more than 27."""

NO_MEMORY = ("Error -4 ", "not enough memory")
"""What zlib and zstd say of it; a zstd tar may ask for 2 GB."""

REGULAR = {b"0", b"\0", b"7"}
LINKS = {b"1", b"2"}
WITHOUT_DATA = {b"1", b"2", b"3", b"4", b"5", b"6"}
GNU_LONG_NAME, GNU_LONG_LINK, GNU_SPARSE = b"L", b"K", b"S"
PAX_NEXT, PAX_GLOBAL, PAX_SOLARIS = b"x", b"g", b"X"

COMPRESSED_BUT_NOT_READ = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}


class TarDamage(Exception):  # noqa: N818 (what it names is the damage)
    """The archive does not end properly; `offset` is a byte of the uncompressed stream."""

    def __init__(self, verdict: Verdict, offset: int, message: str) -> None:
        super().__init__(message)
        self.verdict: Verdict = verdict
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar."""

    name: bytes
    size: int
    """Bytes of data that follow the header."""
    kind: MemberKind
    offset: int
    """Where its first header begins."""


class TarStream:
    """Iterates over the members of a plain, gzip or zstd tar; `read` gives the data of the member just yielded.

    The iteration ends when the archive ends properly, and raises TarDamage when it does not. `offset` is the position in
    the uncompressed stream.
    """

    def __init__(
        self, source: TarSource, *, read_bytes: int = READ_BYTES, on_read: Callable[[], None] = lambda: None
    ) -> None:
        """`read_bytes`: what is read from the file at once; `on_read` is called whenever the file system has given them, or
        fewer. Raises TarDamage, UsageError (no regular file) and OSError.
        """
        self._raw, self.bytes_on_disk = open_tar(source, read_bytes, on_read)
        """The second: of the whole file, or a larger number where nobody knows."""
        self.offset = 0
        self._left = 0
        """Data and padding bytes of the current member that nobody has read."""
        self._padding = 0
        try:
            self._file, self._compression = self._open()
        except BaseException:
            self._raw.close()
            raise

    def _open(self) -> tuple[IO[bytes], str | None]:
        magic = self._raw.read(BLOCK)
        self._raw.seek(0)
        if not magic:
            raise TarDamage("empty_file", 0, "the file is empty (0 bytes)")
        if magic.startswith(b"\x1f\x8b"):
            return gzip.GzipFile(fileobj=self._raw, mode="rb"), "gzip"  # type: ignore[return-value]
        # pzstd begins with a skippable frame, whose first byte is 0x50 to 0x5f
        if magic.startswith(b"\x28\xb5\x2f\xfd") or (magic[1:4] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5):
            options = {DecompressionParameter.window_log_max: LARGEST_ZSTD_WINDOW_LOG}
            return ZstdFile(self._raw, mode="rb", options=options), "zstd"  # type: ignore[call-overload]
        for start, what in COMPRESSED_BUT_NOT_READ.items():
            if magic.startswith(start):
                raise TarDamage("not_a_tar", 0, f"expected a plain, gzip or zstd tar, found {what} data: repack it")
        return self._raw, None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    @property
    def bytes_consumed(self) -> int:
        """Bytes of the file on disk that have been used, for progress."""
        return self._raw.tell() if self._compression else self.offset

    def __iter__(self) -> Iterator[Member]:
        name: bytes | None = None  # from a GNU long name or a pax header, for the next member
        pax: dict[bytes, bytes] = {}
        pax_global: dict[bytes, bytes] = {}
        start = self.offset
        while True:
            self.skip()
            header_offset = self.offset
            header = self._read_block()
            if header is None:
                self._check_end(header_offset, pending=header_offset != start)
                return
            size, type_flag = self._parse(header, header_offset)
            if type_flag in (GNU_LONG_NAME, GNU_LONG_LINK, PAX_NEXT, PAX_SOLARIS, PAX_GLOBAL):
                data = self._read_extended(size, header_offset)
                if type_flag == GNU_LONG_NAME:
                    name = data.partition(b"\0")[0]
                elif type_flag == PAX_GLOBAL:
                    pax_global.update(self._parse_pax(data, header_offset))
                    start = self.offset if header_offset == start else start  # it needs no member after it
                elif type_flag != GNU_LONG_LINK:
                    pax.update(self._parse_pax(data, header_offset))
                continue
            attributes = {**pax_global, **pax}
            if attributes.get(b"size"):  # an empty value takes a global one back
                size = self._decimal(attributes[b"size"], header_offset)
            if name is None:
                name = attributes.get(b"GNU.sparse.name") or attributes.get(b"path") or _header_name(header)
            if type_flag == GNU_SPARSE:
                self._skip_sparse_maps(header)
            sparse = type_flag == GNU_SPARSE or any(key.startswith(b"GNU.sparse.") for key in attributes)
            stored = 0 if type_flag in WITHOUT_DATA else size
            self._left = stored
            self._padding = -stored % BLOCK
            yield Member(name, stored, _kind(type_flag, name, sparse=sparse), start)
            self.skip()
            start, name, pax = self.offset, None, {}

    def check_start(self) -> None:
        """Read the first header, and nothing after it. Raises TarDamage if there is none; zeros may be an empty archive."""
        header = self._read_block()
        if header is not None:
            self._parse(header, 0)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the current member's data; empty at its end. Raises TarDamage if the file ends first."""
        wanted = min(size, self._left)
        data = self._take(wanted)
        self._left -= len(data)
        if len(data) < wanted:
            raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a member's data")
        return data

    def skip(self) -> None:
        """Pass over what is left of the current member."""
        todo = self._left + self._padding
        self._left = self._padding = 0
        if self._compression is None and todo > READ_BYTES:
            # Seeking past the end succeeds, or fails as if the disk were at fault: so ask how long the file is.
            step = max(0, min(todo - 1, self.bytes_on_disk - self.offset))
            self.offset = self._raw.seek(self.offset + step)
            todo -= step
        while todo:
            data = self._take(min(todo, READ_BYTES))
            if not data:
                raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a member's data")
            todo -= len(data)

    def _take(self, size: int) -> bytes:
        """`size` bytes of the stream, fewer only at its end."""
        try:
            data = self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error, ZstdError) as error:
            if any(words in str(error) for words in NO_MEMORY):
                raise MemoryError(f"not enough for the {self._compression} data: {error}") from error
            message = (
                f"the {self._compression} data is cut or damaged near byte {self._raw.tell():,} of the file "
                f"(byte {self.offset:,} of the tar inside): {error}"
            )
            raise TarDamage("bad_compression", self.offset, message) from None
        self.offset += len(data)
        return data

    def _read_block(self) -> bytes | None:
        """The next header block; None at a zero block or at the end of the file (`_check_end` tells which)."""
        block = self._take(BLOCK)
        if len(block) == BLOCK and any(block):
            return block
        if 0 < len(block) < BLOCK and any(block):
            if self.offset < BLOCK:
                raise TarDamage(
                    "not_a_tar", 0, f"expected a tar header of 512 bytes, found a file of {counted(self.offset, 'byte')}"
                )
            raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a member's header")
        return None

    def _check_end(self, end: int, *, pending: bool) -> None:
        """After the last member: two zero blocks or more and nothing else, or TarDamage."""
        if pending:
            raise TarDamage("cut", end, f"the archive ends at byte {end:,}, between an extended header and its member")
        while data := self._take(READ_BYTES):
            if data.count(0) != len(data):
                at = self.offset - len(data.lstrip(b"\0"))
                message = f"zero blocks at byte {end:,} end the archive, but other data follows at byte {at:,}"
                raise TarDamage("data_after_end", at, message)
        if self.offset - end < END_BLOCKS * BLOCK:
            if end == 0:
                raise TarDamage("not_a_tar", 0, f"expected a tar header, found {self.offset} bytes of zero")
            message = (
                f"the file ends at byte {self.offset:,}, after a whole member, but without the zero blocks that end a tar"
            )
            raise TarDamage("no_end_marker", self.offset, message)
        if self.offset - end > LONGEST_END:
            message = (
                f"{self.offset - end:,} bytes of zero follow the last member, from byte {end:,} on: so looks a copy that "
                "was given its size at the start and never finished"
            )
            raise TarDamage("zero_tail", end, message)

    def _parse(self, header: bytes, offset: int) -> tuple[int, bytes]:
        """(size, type flag) of a header block whose checksum is right."""
        try:
            stated = _number(header[148:156])
        except ValueError:
            stated = -1
        # The checksum field counts as spaces; old writers summed signed chars.
        unsigned = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        high = sum(1 for byte in header[:148] + header[156:] if byte > 127) if stated != unsigned else 0
        if stated not in (unsigned, unsigned - 256 * high):
            if offset == 0 and header[257:262] != b"ustar":
                found = header[:16]
                raise TarDamage("not_a_tar", 0, f"expected a tar header at byte 0, found {found!r}")
            raise TarDamage("bad_header", offset, f"the header at byte {offset:,} is damaged: its checksum does not match")
        try:
            return _number(header[124:136]), header[156:157]
        except ValueError:
            message = f"the header at byte {offset:,} has no valid size: {header[124:136]!r}"
            raise TarDamage("bad_header", offset, message) from None

    def _read_extended(self, size: int, offset: int) -> bytes:
        if size > LARGEST_EXTENDED_HEADER:
            message = f"the extended header at byte {offset:,} claims {size:,} bytes: it is damaged"
            raise TarDamage("bad_header", offset, message)
        self._left, self._padding = size, -size % BLOCK
        data = self.read(size)
        self.skip()
        return data

    def _parse_pax(self, data: bytes, offset: int) -> dict[bytes, bytes]:
        """Lines of the form `LENGTH KEY=VALUE`, where LENGTH counts the whole line and its newline."""
        found: dict[bytes, bytes] = {}
        position = 0
        data = data.rstrip(b"\0")
        while position < len(data):
            space = data.find(b" ", position, position + 20)
            length = self._decimal(data[position:space], offset) if space > 0 else 0
            record = data[space + 1 : position + length]
            if not 5 <= length <= len(data) - position or not record.endswith(b"\n") or b"=" not in record:
                raise TarDamage("bad_header", offset, f"the pax header at byte {offset:,} is damaged")
            key, _, value = record[:-1].partition(b"=")
            found[key] = value
            position += length
        return found

    def _decimal(self, text: bytes, offset: int) -> int:
        if not text.isdigit() or len(text) > 20:
            raise TarDamage("bad_header", offset, f"the pax header at byte {offset:,} has no valid number: {text[:20]!r}")
        return int(text)

    def _skip_sparse_maps(self, header: bytes) -> None:
        """Old GNU sparse members carry further map blocks between header and data."""
        more = header[482]
        while more:
            block = self._take(BLOCK)
            if len(block) < BLOCK:
                raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a sparse member's map")
            more = block[504]


def _number(field: bytes) -> int:
    """A numeric header field: octal text, or base 256 where the top bit is set (GNU). Raises ValueError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << (8 * (len(field) - 1)))
        if field[0] == 0xFF or value > 1 << 62:
            raise ValueError("negative or absurd size")
        return value
    text = field.partition(b"\0")[0].strip(b" ")
    if text and not text.isdigit():  # int() takes signs, underscores and `0o` too
        raise ValueError("not octal")
    return int(text, 8) if text else 0


def _header_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU's magic is `ustar `, and it puts other things where POSIX has the prefix
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            return prefix + b"/" + name
    return name


def _kind(type_flag: bytes, name: bytes, *, sparse: bool) -> MemberKind:
    if type_flag == b"5" or (type_flag in REGULAR and name.endswith(b"/")):
        return "directory"
    if type_flag in LINKS:
        return "link"
    if sparse:
        return "sparse"
    return "file" if type_flag in REGULAR else "other"
