"""The partial: append, repair, take over, commit. Every durable write of a result is here.

    NAME.jsonl.partial      whole lines, in tar order; resumable at the next clip
    NAME.jsonl              committed by one rename
    NAME.jsonl.previous     a file whose error records are being retried: its good lines are used again
    .run/manifests/NAME.json, .run/claims/NAME.json

Why two writers on one tar are harmless. A worker that takes over first replaces the claim, then copies the partial's good
lines to a fresh file and renames that over the partial, so a zombie goes on writing into a file that has no name. A
commit first makes its lines durable and only then looks whether the claim is still its own. So whoever loses the claim
before that look gives up; and whoever takes over after it copies lines that are already complete, and renaming either
file commits the same bytes. A worker that is overtaken while it copies looks at the claim once more before its rename;
should it fall asleep in between, and put its short copy in place late, the commit sees that this is not the file it wrote.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.claims import Claim, held_by_other, read_claim
from jobs.fileops import FileOps, write_atomically, write_if_absent
from jobs.outputs import InputIdentity, TarPaths, read_manifest
from jobs.records import (
    VERDICT_COMPLETE,
    ErrorRecord,
    Manifest,
    Record,
    Tally,
    TokenRecord,
    decode_record,
    token_fault,
)

__all__ = ["Ledger", "is_disk_trouble"]

SYNC_SECONDS = 2.0
WRITE_BYTES = 4 << 20


def whole_lines(path: Path) -> Iterator[bytes]:
    """The file's lines that end in a newline, without it."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def good_prefix(lines: Iterable[bytes], codebook_size: int) -> Iterator[tuple[bytes, Record]]:
    """The longest prefix of lines that are valid records."""
    for line in lines:
        try:
            record = decode_record(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if isinstance(record, TokenRecord) and token_fault(record.tokens, record.token_shape, codebook_size):
            return
        yield line, record


class Ledger:
    """One attempt's hold on one tar's output. Use `take` to get one, and `commit` or `release` to end it."""

    def __init__(
        self,
        paths: TarPaths,
        identity: InputIdentity,
        fingerprint: str,
        codebook_size: int,
        *,
        ops: FileOps,
        clock: Callable[[], float],
    ) -> None:
        self.paths = paths
        self.tally = Tally()
        self.done: list[str] = []
        """Names of the clips that already have a line, in tar order, as found when the partial was taken over."""
        self._identity = identity
        self._fingerprint = fingerprint
        self._codebook_size = codebook_size
        self._ops = ops
        self._clock = clock
        self._started = clock()
        self._synced = self._started
        self._attempt = uuid.uuid4().hex[:12]
        self._sha = hashlib.sha256()
        self._bytes = 0
        self._fd = -1
        self._wall_before = 0.0
        self._reusable: dict[int, tuple[str, int, int]] = {}  # index -> (clip name, offset, length) in `previous`

    @classmethod
    def take(
        cls,
        paths: TarPaths,
        identity: InputIdentity,
        fingerprint: str,
        codebook_size: int,
        *,
        retry_errors: bool = False,
        ops: FileOps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Ledger:
        """Claim a tar and take its partial over, repaired.

        Raises ClaimLostError if a living worker on this machine holds the claim or the tar is committed, UsageError if
        what is there was made with another recipe.
        """
        ledger = cls(paths, identity, fingerprint, codebook_size, ops=ops or FileOps(), clock=clock)
        manifest = read_manifest(paths.manifest)
        if manifest is not None and manifest.fingerprint != fingerprint:
            raise UsageError(
                f"{paths.manifest}: made with the recipe {manifest.fingerprint}, this run has {fingerprint}: "
                "two recipes are two data sets, use another --output-dir"
            )
        ledger._claim()
        try:
            if paths.committed.exists() and not retry_errors:
                raise ClaimLostError(f"{paths.name}: another worker has committed it")
            if manifest is None or not identity.matches(manifest):
                ledger._forget()
                manifest = None
            elif retry_errors:
                ledger._set_aside()
            ledger._wall_before = manifest.wall_seconds if manifest else 0.0
            ledger._write_manifest(msgspec.convert(ledger._common(), Manifest))
            ledger._take_over()
            ledger._index_previous()
        except BaseException:
            ledger.abandon()
            raise
        return ledger

    def _claim(self) -> None:
        mine = Claim.of_this_process(self._attempt)
        while not write_if_absent(self._ops, self.paths.claim, msgspec.json.encode(mine)):
            holder = read_claim(self.paths.claim)
            if holder is None:  # released a moment ago
                continue
            if held_by_other(holder, mine):
                message = f"{self.paths.name}: process {holder.pid} on {holder.host} is working on it: left alone"
                raise ClaimLostError(message)
            write_atomically(self._ops, self.paths.claim, msgspec.json.encode(mine))
            return

    def _forget(self) -> None:
        """Lines that cannot be shown to come from this tar and recipe are worth nothing."""
        self._ops.unlink(self.paths.partial)
        self._ops.unlink(self.paths.previous)

    def _set_aside(self) -> None:
        """Make the lines so far a source of good lines, and begin a new partial."""
        for source in (self.paths.committed, self.paths.partial):
            if source.exists() and not (source == self.paths.partial and self.paths.previous.exists()):
                self._ops.rename(source, self.paths.previous)
                self._ops.fsync_dir(source.parent)

    def _take_over(self) -> None:
        fresh = self.paths.partial.with_name(f".{self.paths.partial.name}.{self._attempt}")
        self._fd = self._ops.create(fresh)
        try:
            with suppress(FileNotFoundError):
                for line, record in good_prefix(whole_lines(self.paths.partial), self._codebook_size):
                    self.done.append(record.audio_file)
                    self.tally.add(record)
                    self._put(line + b"\n")
            self._ops.fsync(self._fd)
            self._check_mine()  # copying takes a while
            self._rename(fresh, self.paths.partial)
        except BaseException:
            self._ops.unlink(fresh)
            raise
        self._ops.fsync_dir(self.paths.partial.parent)
        # A worker that was killed in this very step left its copy behind.
        for litter in self.paths.partial.parent.glob(f".{_escape(self.paths.partial.name)}.????????????"):
            self._ops.unlink(litter)

    def _index_previous(self) -> None:
        if not self.paths.previous.exists():
            return
        offset = 0
        for index, (line, record) in enumerate(good_prefix(whole_lines(self.paths.previous), self._codebook_size)):
            if not isinstance(record, ErrorRecord):
                self._reusable[index] = (record.audio_file, offset, len(line))
            offset += len(line) + 1

    def reusable_line(self, index: int, clip_name: str) -> bytes | None:
        """The clip's line from before --retry-errors, if it had tokens."""
        name, offset, length = self._reusable.get(index, ("", 0, 0))
        if not length or name != clip_name:
            return None
        with self.paths.previous.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def append(self, record: Record, parts: Iterable[bytes]) -> None:
        """Append one line, given as bytes without the newline; fsync when SYNC_SECONDS have passed."""
        self._write(itertools.chain(parts, (b"\n",)))
        self.tally.add(record)
        if self._clock() - self._synced >= SYNC_SECONDS:
            self.sync()

    def _write(self, parts: Iterable[bytes]) -> None:
        held: list[bytes] = []
        size = 0
        for part in parts:
            held.append(part)
            size += len(part)
            if size >= WRITE_BYTES:
                self._put(b"".join(held))
                held, size = [], 0
        self._put(b"".join(held))

    def _put(self, data: bytes) -> None:
        self._ops.write(self._fd, data)
        self._sha.update(data)
        self._bytes += len(data)

    def sync(self) -> None:
        """Make all lines so far survive a power loss."""
        self._ops.fsync(self._fd)
        self._synced = self._clock()

    def commit(self, **findings: object) -> Manifest:
        """The tar was read to a proper end: make the partial the committed file. `findings` go into the manifest."""
        self.sync()
        manifest = self._summary(verdict=VERDICT_COMPLETE, **findings)
        self._check_mine()
        self._write_manifest(manifest)
        self._check_mine()
        self._check_in_place()
        self._rename(self.paths.partial, self.paths.committed)
        self._ops.fsync_dir(self.paths.committed.parent)
        self._ops.unlink(self.paths.previous)
        self._end()
        return manifest

    def release(self, **findings: object) -> Manifest:
        """End the attempt without a commit: the partial stays, resumable at the next clip."""
        self.sync()
        manifest = self._summary(**findings)
        self._check_mine()
        self._write_manifest(manifest)
        self._end()
        return manifest

    def start_over(self) -> None:
        """The partial turned out to be another tar's: end the attempt and leave nothing of it."""
        self._check_mine()
        self._forget()
        self._end()

    @staticmethod
    def erase(paths: TarPaths, ops: FileOps) -> None:
        """Forget all that is known of a tar (--force)."""
        for path in (paths.committed, paths.partial, paths.previous, paths.manifest):
            ops.unlink(path)

    def abandon(self) -> None:
        """End the attempt when nothing can be written any more, or the claim is lost."""
        with suppress(OSError, ClaimLostError):
            self._check_mine()
            self._ops.unlink(self.paths.claim)
        self._close()

    def _end(self) -> None:
        self._ops.unlink(self.paths.claim)
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_mine(self) -> None:
        holder = read_claim(self.paths.claim)
        if holder is None or holder.attempt != self._attempt:
            raise ClaimLostError(f"{self.paths.name}: another worker has taken it over; this one stops")

    def _check_in_place(self) -> None:
        """The partial must still be the file that this worker has written, and not an overtaken worker's late copy."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._fd), self.paths.partial.stat()):
                return
        raise ClaimLostError(f"{self.paths.name}: another worker has put its own partial in place; this one stops")

    def _rename(self, source: Path, target: Path) -> None:
        try:
            self._ops.rename(source, target)
        except FileNotFoundError:  # committed, or swept up
            raise ClaimLostError(f"{self.paths.name}: another worker has taken it over; this one stops") from None

    def _common(self) -> dict[str, object]:
        return {
            "tar_file": self._identity.tar_file,
            "input_bytes": self._identity.size,
            "input_mtime_ns": self._identity.mtime_ns,
            "fingerprint": self._fingerprint,
            "attempt": self._attempt,
            "wall_seconds": round(self._wall_before, 3),
        }

    def _summary(self, **findings: object) -> Manifest:
        wall = self._wall_before + self._clock() - self._started
        values = {
            **self._common(),
            "wall_seconds": round(wall, 3),
            "clips": self.tally.clips,
            "errors": dict(sorted(self.tally.errors.items())),
            "audio_seconds": round(self.tally.audio_seconds, 3),
            "output_bytes": self._bytes,
            "output_sha256": self._sha.hexdigest(),
            **findings,
        }
        return msgspec.convert(values, Manifest)

    def _write_manifest(self, manifest: Manifest) -> None:
        write_atomically(self._ops, self.paths.manifest, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def _escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def is_disk_trouble(error: OSError) -> bool:
    """Whether an OSError speaks of the storage rather than of a missing or wrong file."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOMEM}
