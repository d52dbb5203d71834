"""The journal of a long clip: the codes of its fragments, kept until its line is written.

With lines alone, a run could never finish a clip that takes longer than a job's time limit. The codes of a long clip whose
line is due next are therefore appended to a file per attempt; the next attempt decodes the clip again, but encodes only
what is missing.

    .run/attempts/.NAME.clip.ATTEMPT

An attempt appends only to a file that it created: other attempts' journals are copied, then removed. The file is a sequence
of entries: the number of fragments so far, the size of the codes, the codes ([frames, codebooks], little-endian), and the
first half of the SHA-256 over the file up to there. Entry 0 names the tar, the recipe and the clip, in JSON. Only complete
entries before the first damaged one count.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from audio_tokenizers.base import Codes, Field
from audio_tokenizers.errors import InfrastructureError
from jobs.any_json import decode_json
from jobs.fileops import FileOps
from jobs.scratch import scratch_trouble
from jobs.tar_task import InputIdentity

__all__ = [
    "LONG_CLIP_SECONDS",
    "ClipJournal",
    "JournalMismatchError",
    "LongClip",
    "MemberSum",
    "code_type",
    "frames_kept",
    "member_sum",
]

LONG_CLIP_SECONDS = 300.0
"""Seconds of audio. Shorter clips have no journal: it would cost more than it could save."""
KEEP_SECONDS = 30.0
"""Seconds of work on one clip between entries: the most that kill -9 can cost. A clip that takes less has no journal."""
MOST_UNKEPT_BYTES = 4 << 20
"""Codes of this size are written at once, since they wait in memory."""
READ_BYTES = 4 << 20
JOURNAL_FORMAT = 1
HEAD = struct.Struct("<II")
"""Fragments so far, bytes of the codes."""
DIGEST_BYTES = 16


class JournalMismatchError(InfrastructureError):
    """The clip ends before its journal does. The next attempt ignores the journal."""


@dataclass(frozen=True, slots=True)
class MemberSum:
    """Identifies the bytes of an audio member."""

    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class LongClip:
    """Identifies a clip of a tar."""

    index: int
    name: str
    member: MemberSum


class _Header(msgspec.Struct, frozen=True):
    """The content of entry 0."""

    format: int
    fingerprint: str
    input_bytes: int
    input_mtime_ns: int
    codebooks: int
    code_type: str
    clip: int
    name: str
    member_bytes: int
    member_crc32: int


@dataclass(frozen=True, slots=True)
class _Entry:
    fragments: int
    codes: bytes


def code_type(field: Field) -> np.dtype[Any]:
    """The smallest type that holds every code of the field."""
    return np.min_scalar_type(field.lowest + max(field.codebook_size, 1) - 1).newbyteorder("<")


def member_sum(audio: IO[bytes], on_read: Callable[[], None]) -> MemberSum:
    """The sum of all bytes; the file position is kept. `on_read` is called for each piece."""
    if isinstance(audio, io.BytesIO):
        with audio.getbuffer() as view:
            return MemberSum(len(view), zlib.crc32(view))
    size = crc = 0
    with scratch_trouble():
        while piece := os.pread(audio.fileno(), READ_BYTES, size):
            on_read()
            size, crc = size + len(piece), zlib.crc32(piece, crc)
    return MemberSum(size, crc)


class ClipJournal:
    """One attempt's journal. The reading thread reads from it, the writing thread adds to it."""

    def __init__(
        self,
        path: Path,
        identity: InputIdentity,
        fingerprint: str,
        field: Field,
        *,
        ops: FileOps,
        clock: Callable[[], float],
        check_mine: Callable[[], None],
    ) -> None:
        """`check_mine` raises ClaimLostError if another worker has taken the tar."""
        self.path = path
        self._identity = identity
        self._fingerprint = fingerprint
        self._field = field
        self._type = code_type(field)
        self._ops = ops
        self._clock = clock
        self._check_mine = check_mine
        self._lock = threading.Lock()
        self._fd = -1
        self._sha = hashlib.sha256()
        self._header: _Header | None = None
        """Entry 0 of the file; None if there is no file."""
        self._fragments = 0
        self._timed: LongClip | None = None
        self._since = 0.0

    @property
    def clip(self) -> int | None:
        """The clip that the journal is about."""
        return None if self._header is None else self._header.clip

    def take_over(self, paths: Iterable[Path], first: int) -> None:
        """Start from a copy of the longest of these journals that are about clip `first` or a later one."""
        found = [(fragments, clip, path) for path in paths for clip, fragments in self._look(path) if clip >= first]
        if not found:
            return
        _, _, best = max(found)
        entries = _entries(best)
        if (header := self._header_of(next(entries, None))) is None:
            return
        self._create(header)
        for entry in entries:
            self._append(entry.fragments, entry.codes)
        self._ops.fsync(self._fd)
        self._ops.fsync_dir(self.path.parent)

    def _look(self, path: Path) -> Iterator[tuple[int, int]]:
        """Yield (clip, number of fragments) once if the journal is of this tar and recipe and has any."""
        entries = _entries(path)
        header, last = self._header_of(next(entries, None)), 0
        for entry in entries:
            last = entry.fragments
        if header is not None and last:
            yield header.clip, last

    def _header_of(self, entry: _Entry | None) -> _Header | None:
        with suppress(msgspec.DecodeError):
            header = decode_json(entry.codes, _Header) if entry is not None else None
            if header is not None and header == self._header_for(
                LongClip(header.clip, header.name, MemberSum(header.member_bytes, header.member_crc32))
            ):
                return header
        return None

    def _header_for(self, clip: LongClip) -> _Header:
        return _Header(
            JOURNAL_FORMAT,
            self._fingerprint,
            self._identity.size,
            self._identity.mtime_ns,
            self._field.width,
            self._type.str,
            clip.index,
            clip.name,
            clip.member.bytes,
            clip.member.crc32,
        )

    def may_know(self, index: int, name: str) -> bool:
        """Whether the journal may be about this clip, which makes hashing its bytes worthwhile."""
        header = self._header
        return header is not None and (header.clip, header.name) == (index, name)

    def read(self, clip: LongClip, add: Callable[[Codes], None]) -> int:
        """Pass the codes [codebooks, frames] of the clip's first fragments to `add`; returns the number of fragments."""
        with self._lock:
            if self._header is None or self._header != self._header_for(clip):
                return 0
            fragments = 0
            entries = _entries(self.path)
            next(entries, None)
            for entry in entries:
                codes = np.frombuffer(entry.codes, self._type).reshape(-1, self._field.width).T
                fragments = entry.fragments
                add(codes)
            if fragments != self._fragments:  # damaged since the takeover
                self._remove()
            return fragments

    def is_time(self, clip: LongClip, unkept_bytes: int) -> bool:
        """Whether to add the new codes of the clip whose line is due."""
        now = self._clock()
        if clip != self._timed:
            self._timed, self._since = clip, now
        return unkept_bytes >= MOST_UNKEPT_BYTES or now - self._since >= KEEP_SECONDS

    def add(self, clip: LongClip, before: int, fragments: int, codes: bytes) -> bool:
        """Append the `codes` of fragments `before` to `fragments` - 1. Returns False if earlier fragments are missing."""
        with self._lock:
            if self._header != self._header_for(clip):
                if before:
                    return False
                self._check_mine()  # a superseded attempt's file might stay forever
                self._remove()
                self._create(self._header_for(clip))
                self._append(fragments, codes)
                self._ops.fsync(self._fd)
                self._ops.fsync_dir(self.path.parent)
            elif before != self._fragments:
                return False
            else:
                self._append(fragments, codes)
                self._ops.fsync(self._fd)
        self._since = self._clock()
        return True

    def _create(self, header: _Header) -> None:
        self._fd = self._ops.create(self.path)
        self._sha = hashlib.sha256()
        self._append(0, msgspec.json.encode(header))
        self._header = header

    def _append(self, fragments: int, codes: bytes) -> None:
        data = HEAD.pack(fragments, len(codes)) + codes
        sha = self._sha.copy()
        sha.update(data)
        digest = sha.digest()[:DIGEST_BYTES]
        sha.update(digest)
        self._ops.write(self._fd, data + digest)
        self._sha, self._fragments = sha, fragments

    def forget(self) -> None:
        """Remove the journal: the clip's line is durable, or the clip is not wanted."""
        with self._lock:
            self._remove()

    def _remove(self) -> None:
        if self._header is not None:
            self.close()
            self._ops.unlink(self.path)

    def close(self) -> None:
        """Close the file."""
        self._header, self._fragments = None, 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _entries(path: Path) -> Iterator[_Entry]:
    """The complete entries of a file that may not exist, up to the first damaged one."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        sha, left, fragments = hashlib.sha256(), os.fstat(file.fileno()).st_size, -1
        while len(head := file.read(HEAD.size)) == HEAD.size:
            so_far, size = HEAD.unpack(head)
            left -= HEAD.size + size + DIGEST_BYTES
            if left < 0 or so_far <= fragments:
                return
            codes = file.read(size)
            sha.update(head + codes)
            digest = sha.digest()[:DIGEST_BYTES]
            if file.read(DIGEST_BYTES) != digest:
                return
            sha.update(digest)
            fragments = so_far
            yield _Entry(fragments, codes)


def frames_kept(path: Path, first: int) -> int:
    """Frames that a journal holds of clip `first` or a later one, for display: read from the entry heads alone; 0 without a
    journal.
    """
    try:
        with path.open("rb") as file:
            left, size = os.fstat(file.fileno()).st_size, 0
            header: _Header | None = None
            while len(head := file.read(HEAD.size)) == HEAD.size:
                codes = HEAD.unpack(head)[1]
                left -= HEAD.size + codes + DIGEST_BYTES
                if left < 0:
                    break
                if header is None:
                    header = decode_json(file.read(codes), _Header)
                    file.seek(DIGEST_BYTES, os.SEEK_CUR)
                else:
                    size += codes
                    file.seek(codes + DIGEST_BYTES, os.SEEK_CUR)
            if header is None or header.clip < first:
                return 0
            return size // (int(header.code_type[2:]) * max(1, header.codebooks))  # the type is like `<u2`
    except (OSError, msgspec.DecodeError, ValueError, ZeroDivisionError):
        return 0
