"""A strict tar reader: one streaming pass over member headers and data, up to a proper end or a TarDamage.

Python's `tarfile` stops without an error at a broken header, at zeros inside the archive and at a cut between members, so it
cannot distinguish a complete archive from a damaged one. This reader accepts what POSIX (IEEE Std 1003.1, pax) and GNU tar
write, and reports the byte where anything else begins.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Literal

from audio_tokenizers.shared.wording import counted
from jobs.tar_headers import (
    BLOCK,
    EXTENDED,
    GNU_SPARSE,
    HARD_LINK,
    PAX_GLOBAL,
    PLAIN_FILE,
    WITHOUT_DATA,
    Extended,
    MemberKind,
    checksum_fits,
    decimal,
    header_name,
    header_target,
    kind_of,
    number,
    parse_pax,
)
from jobs.tar_source import READ_BYTES, TarSource, open_tar
from jobs.tar_sparse import Restored, SparseMap, is_gnu_sparse, is_pax_sparse, read_gnu_map, read_pax_map

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdError, ZstdFile
else:
    from backports.zstd import DecompressionParameter, ZstdError, ZstdFile

__all__ = ["ACCEPTABLE", "Member", "MemberKind", "TarDamage", "TarStream", "Verdict", "looks_joined"]

Verdict = Literal[
    "empty_file", "not_a_tar", "cut", "bad_header", "data_after_end", "bad_compression", "no_end_marker", "zero_tail"
]
ACCEPTABLE: tuple[Verdict, ...] = ("no_end_marker", "zero_tail")
"""Verdicts that the user may accept: the tar may be whole all the same."""

END_BLOCKS = 2
LONGEST_END = 2 << 20
"""Writers pad their last record with zeros; records are 10 KiB by default, and never this large."""
LARGEST_EXTENDED_HEADER = 16 << 20
LARGEST_ZSTD_WINDOW_LOG = 31
"""`zstd --long=31`; by default decoders refuse more than 27."""

NO_MEMORY = ("Error -4 ", "not enough memory")
"""Out-of-memory messages of zlib and zstd; a zstd tar may need 2 GB."""

COMPRESSED_BUT_NOT_READ = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}

JOINED = "begins, as where tars were put end to end"
"""In the message of the verdict `data_after_end` if tars may have been concatenated."""


class TarDamage(Exception):  # noqa: N818 (named after the damage)
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
    """Bytes of data that `read` returns; for a sparse file, including its holes."""
    kind: MemberKind
    """`sparse` is a sparse file that is not restored."""
    offset: int
    """Where its first header begins."""
    target: bytes = b""
    """The target: another member for a hard link, a path from the link's own folder for a symbolic one."""
    hard: bool = False
    """Whether it is a hard link."""
    fault: str = ""
    """Why a sparse file is not restored."""


class TarStream:
    """Iterates over the members of a plain, gzip or zstd tar; `read` returns data of the member just yielded.

    The iteration ends when the archive ends properly, and raises TarDamage when it does not. `offset` is the position in
    the uncompressed stream.
    """

    def __init__(
        self,
        source: TarSource,
        *,
        read_bytes: int = READ_BYTES,
        seek_over: int = READ_BYTES,
        on_read: Callable[[], None] = lambda: None,
        allow_joined: bool = False,
    ) -> None:
        """`read_bytes`: size of a read from the file; `on_read` is called after each read. In a plain tar, unwanted data of
        more than `seek_over` bytes is skipped by seeking. `allow_joined`: after the end of an archive another one may
        begin. Raises TarDamage, UsageError (not a regular file) and OSError.
        """
        self._seek_over = seek_over
        self._allow_joined = allow_joined
        self._raw, self.bytes_on_disk = open_tar(source, read_bytes, on_read)
        """bytes_on_disk: size of the whole file, or a larger number if it is unknown."""
        self.offset = 0
        self.ends = 0
        """Number of archives passed so far, if joined archives are allowed."""
        self._left = 0
        """Unread data bytes of the current member."""
        self._padding = 0
        self._restored: Restored | None = None
        """The current member's reader, if it is a sparse file."""
        self._peeked = b""
        """Data of the current member that was read ahead and not yet returned."""
        self._ahead = b""
        """Bytes of the stream after `offset` that were read ahead."""
        self._pax_global: dict[bytes, bytes] = {}
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
        # pzstd output begins with a skippable frame, whose first byte is 0x50 to 0x5f
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
    def is_plain(self) -> bool:
        """Whether it is uncompressed, which `seek` requires."""
        return self._compression is None

    def seek(self, offset: int) -> None:
        """Make the next iteration begin at a member's `offset`."""
        self._left = self._padding = 0
        self._restored, self._peeked, self._ahead = None, b"", b""
        self.offset = self._raw.seek(offset)

    @property
    def bytes_consumed(self) -> int:
        """Bytes consumed of the file on disk, for progress."""
        return self._raw.tell() if self._compression else self.offset

    def __iter__(self) -> Iterator[Member]:
        said: Extended | None = None
        start = self.offset
        while True:
            self.skip()
            header_offset = self.offset
            header = self._read_block()
            if header is None:
                header = self._check_end(header_offset, pending=header_offset != start)
                if header is None:
                    return
                self._pax_global.clear()
                start = header_offset = self.offset - BLOCK
            size, type_flag = self._parse(header, header_offset)
            if type_flag in EXTENDED:
                said = said or Extended()
                self._take_extended(said, type_flag, size, header_offset)
                if type_flag == PAX_GLOBAL and header_offset == start:
                    start = self.offset  # a global header needs no member after it
                continue
            if said is None and not self._pax_global and type_flag in PLAIN_FILE:  # fast path: nearly all members
                name = header_name(header)
                self._left, self._padding = size, -size % BLOCK
                yield Member(name, size, kind_of(type_flag, name), start)
            else:
                yield self._begin(header, size, type_flag, said or Extended(), start)
            self.skip()
            start, said = self.offset, None

    def _take_extended(self, said: Extended, type_flag: bytes, size: int, offset: int) -> None:
        data = self._read_extended(size, offset)
        try:
            if type_flag == PAX_GLOBAL:
                self._pax_global.update(parse_pax(data))
            else:
                said.take(type_flag, data)
        except ValueError as error:
            raise TarDamage("bad_header", offset, f"the pax header at byte {offset:,} {error}") from None

    def _begin(self, header: bytes, size: int, type_flag: bytes, said: Extended, start: int) -> Member:
        """The member, ready to be read."""
        attributes = {**self._pax_global, **said.pax}
        if attributes.get(b"size"):  # an empty value revokes a global one
            try:
                size = decimal(attributes[b"size"])
            except ValueError as error:
                offset = self.offset - BLOCK
                raise TarDamage("bad_header", offset, f"the pax header before byte {offset:,} {error}") from None
        name = said.name
        if name is None:
            name = attributes.get(b"GNU.sparse.name") or attributes.get(b"path") or header_name(header)
        kind = kind_of(type_flag, name)
        if kind == "link":
            target = said.target if said.target is not None else attributes.get(b"linkpath") or header_target(header)
            return Member(name, 0, kind, start, target, hard=type_flag == HARD_LINK)
        found = None
        if type_flag == GNU_SPARSE:
            found = self._read_gnu_map(header, size)
        self._left = 0 if type_flag in WITHOUT_DATA else size
        self._padding = -self._left % BLOCK
        if found is None and kind == "file" and is_pax_sparse(attributes):
            found = read_pax_map(attributes, self._left, self._read_stored)
        if found is None:
            return Member(name, self._left, kind, start)
        if found.fault:
            return Member(name, self._left, "sparse", start, fault=found.fault)
        self._restored = Restored(found, self._read_stored)
        return Member(name, found.size, kind, start)

    def check_start(self) -> None:
        """Read only the first header. Raises TarDamage if it is not one; zeros pass, since they may be an empty archive."""
        header = self._read_block()
        if header is not None:
            self._parse(header, 0)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the current member's data; fewer only at its end. Raises TarDamage if the file is cut."""
        if not self._peeked:
            return self._read_data(size)
        data, self._peeked = self._peeked[:size], self._peeked[size:]
        return data + self._read_data(size - len(data)) if len(data) < size else data

    def read_raw(self, size: int) -> bytes:
        """Up to `size` bytes of the uncompressed tar from `offset` on, headers included; not during an iteration."""
        return self._take(size)

    def peek(self, size: int) -> bytes:
        """The same, but the next `read` returns these bytes again."""
        self._peeked += self._read_data(max(0, size - len(self._peeked)))
        return self._peeked[:size]

    def _read_data(self, size: int) -> bytes:
        return self._read_stored(size) if self._restored is None else self._restored.read(size)

    def _read_stored(self, size: int) -> bytes:
        wanted = min(size, self._left)
        data = self._take(wanted)
        self._left -= len(data)
        if len(data) < wanted:
            raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a member's data")
        return data

    def skip(self) -> None:
        """Skip the rest of the current member."""
        todo = self._left + self._padding
        self._left = self._padding = 0
        self._restored, self._peeked = None, b""
        if self._compression is None and not self._ahead and todo > self._seek_over:
            # Seeking past the end succeeds, or fails like a disk error: limit the step by the file's size.
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
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            self.offset += len(data)
            return data + self._take(size - len(data)) if len(data) < size else data
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
        """The next header block; None at a zero block or at the end of the file (`_check_end` distinguishes them)."""
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

    def _check_end(self, end: int, *, pending: bool) -> bytes | None:
        """Check the end after the last member: at least two zero blocks and nothing else, else raise TarDamage.

        If joined tars are allowed, another one may follow the zero blocks: its first header is returned.
        """
        if pending:
            raise TarDamage("cut", end, f"the archive ends at byte {end:,}, between an extended header and its member")
        while data := self._take(READ_BYTES):
            if data.count(0) != len(data):
                at = self.offset - len(data.lstrip(b"\0"))
                begin = at - (at - end) % BLOCK
                self._ahead, self.offset = data[begin - self.offset :], begin  # a negative index: from the data's end
                header = self._take(BLOCK)
                joined = at - end <= LONGEST_END and len(header) == BLOCK and checksum_fits(header)
                if joined and self._allow_joined:
                    self.ends += 1
                    return header
                what = f"other data follows at byte {at:,}"
                what = f"at byte {at:,} another one {JOINED}" if joined else what
                raise TarDamage("data_after_end", at, f"zero blocks at byte {end:,} end the archive, but {what}")
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
        return None

    def _parse(self, header: bytes, offset: int) -> tuple[int, bytes]:
        """(size, type flag) of a header block. Raises TarDamage if its checksum does not match."""
        if not checksum_fits(header):
            if offset == 0 and header[257:262] != b"ustar":
                found = header[:16]
                raise TarDamage("not_a_tar", 0, f"expected a tar header at byte 0, found {found!r}")
            raise TarDamage("bad_header", offset, f"the header at byte {offset:,} is damaged: its checksum does not match")
        try:
            return number(header[124:136]), header[156:157]
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

    def _read_gnu_map(self, header: bytes, size: int) -> SparseMap | None:
        """The map of a member of type S, which only GNU tar uses for sparse files; None for a plain file."""
        offset = self.offset - BLOCK
        try:
            return read_gnu_map(header, size, self._read_map_block) if is_gnu_sparse(header) else None
        except ValueError as error:
            message = f"the header at byte {offset:,} has no valid map of a sparse member: {error}"
            raise TarDamage("bad_header", offset, message) from None

    def _read_map_block(self) -> bytes:
        block = self._take(BLOCK)
        if len(block) < BLOCK:
            raise TarDamage("cut", self.offset, f"the file ends at byte {self.offset:,}, inside a sparse member's map")
        return block


def looks_joined(verdict: str, detail: str) -> bool:
    """Whether a manifest's verdict is about concatenated tars, as far as the next one's first header shows."""
    return verdict == "data_after_end" and JOINED in detail
