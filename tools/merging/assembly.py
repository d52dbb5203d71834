"""Committed files of a run -> one file, a member each, in list order, with the same bytes however often it is interrupted.

The output grows under a hidden name beside it and is renamed when it is whole; an older output stays untouched until then.
Members that both have in common are copied from it: merging a run that has grown costs only what is new.
tools/merging/index.py names the files.
"""

from __future__ import annotations

import functools
import logging
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audio_tokenizers.errors import ClaimLostError, Tar2TokensError, UsageError
from audio_tokenizers.shared.wording import counted
from hpc.run import ListedTar
from jobs.claims import Claim, Hold, nobody_knows, read_claim
from jobs.fileops import write_atomically
from tools.common.run_files import CommittedFile
from tools.merging.index import Entry, Header, Index, MergePaths, common_prefix, encode_lines, read_index, reusable
from tools.merging.members import Made, make_member
from tools.merging.part_pool import PartTask, make_parts, writing
from tools.merging.partial import CHECKPOINT_BYTES, Growing, MergeOps
from tools.merging.shapes import Shape

__all__ = ["Merged", "Tell", "merge"]

ATTEMPT_DIGITS = 12

log = logging.getLogger("tar2tokens")


class Tell(Protocol):
    """Called with bytes of committed files that are done."""

    def __call__(self, size: int, /, *, before: bool = False) -> None:
        """`before`: an earlier merge did them."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge."""

    entries: tuple[Entry, ...]
    made: int
    """Members made now; the others were in the partial or in the earlier output."""
    bytes_in: int
    """Of the committed files."""

    @property
    def lines(self) -> int:
        """In it."""
        return sum(entry.lines for entry in self.entries)

    @property
    def left_out(self) -> dict[str, int]:
        """Clips without a line, by kind."""
        total: Counter[str] = Counter()
        for entry in self.entries:
            total.update(entry.left_out)
        return dict(sorted(total.items()))

    @property
    def bytes_out(self) -> int:
        """Its size."""
        return self.entries[-1].end if self.entries else 0


def merge(
    files: Sequence[CommittedFile],
    listed: Sequence[ListedTar],
    output: Path,
    *,
    shape: Shape | None = None,
    workers: int = 1,
    tell: Tell = lambda _, **__: None,
    ops: MergeOps | None = None,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
) -> Merged | None:
    """Merge `files` into `output`, compressed according to its name; None if it is up to date. `listed` is the run's list.

    Raises UsageError if `output` is something other than a merge of this run's tars in this shape, or no line would be left,
    ClaimLostError if another process merges, InfrastructureError if a committed file is damaged or a disk is full. The next
    call uses what is complete by then.
    """
    paths = MergePaths(Path(os.path.realpath(output)))
    header = Header(shape, paths.compression)
    finished = _find_finished(paths, header, listed)
    left = any(path.exists() for path in (paths.partial, paths.partial_index, paths.claim))
    if finished is not None and _holds(finished, files) and not left:
        return None  # without a claim: the disk may be read-only
    ops = ops or MergeOps()
    with writing(paths.output), _claimed(paths, ops) as hold:
        finished = _find_finished(paths, header, listed)
        if finished is not None:
            _settle(paths, finished, ops)
            if _holds(finished, files):
                _remove_partial(paths, ops)
                return None
        kept = _find_kept(paths, header, files)
        for file in files[: len(kept)]:
            tell(file.bytes, before=True)
        growing = Growing(paths, header, kept, ops=ops, checkpoint_bytes=checkpoint_bytes)
        work = _Work(growing, paths, header, hold.mine.attempt, workers, tell, ops)
        with closing(growing):
            try:
                made = work.fill(files[len(kept) :], finished)
                growing.commit(functools.partial(_check_mine, paths, hold))
            except ClaimLostError:
                raise
            except (Tar2TokensError, OSError, KeyboardInterrupt):
                with suppress(OSError):
                    growing.keep_what_is_whole()
                raise
    return Merged(tuple(growing.entries), made, sum(file.bytes for file in files))


def _find_finished(paths: MergePaths, header: Header, listed: Sequence[ListedTar]) -> Index | None:
    """The index of the existing output, None if there is none. Raises UsageError if the output must not be replaced."""
    if not os.path.lexists(paths.output):
        return None
    index = None
    if not paths.partial.exists():  # killed between the last steps: the log is the newer index
        index = read_index(paths.partial_index, paths.output)
    if index is None or not index.whole:
        index = read_index(paths.index, paths.output)
    if index is None or not index.whole or not index.entries:
        raise UsageError(
            f"--output {paths.output}: it exists, and no {paths.index.name} vouches for it as a merged file: move it away, "
            "or give another name"
        )
    if index.header != header:
        was, asked = (f"--shape {found.shape}" if found.shape else "no --shape" for found in (index.header, header))
        raise UsageError(
            f"--output {paths.output}: made with {was}, asked for now is {asked}: give another name, or remove it"
        )
    known = {(tar.name, tar.tar) for tar in listed}
    for entry in index.entries:
        if (entry.name, entry.tar) not in known:
            raise UsageError(
                f"--output {paths.output}: it holds tokens of {entry.tar}, which is not in this run's list: give another "
                "name, or remove it"
            )
    return index


def _holds(index: Index, files: Sequence[CommittedFile]) -> bool:
    return len(index.entries) == len(files) == len(common_prefix(index.entries, files))


def _settle(paths: MergePaths, finished: Index, ops: MergeOps) -> None:
    """Finish a merge that was killed after its rename."""
    found = read_index(paths.index, paths.output)
    if found is None or found != finished:
        write_atomically(ops, paths.index, encode_lines([finished.header, *finished.entries]))


def _remove_partial(paths: MergePaths, ops: MergeOps) -> None:
    for path in (paths.partial_index, paths.partial):
        ops.unlink(path)


def _find_kept(paths: MergePaths, header: Header, files: Sequence[CommittedFile]) -> tuple[Entry, ...]:
    """The part of a partial that can be reused."""
    index = read_index(paths.partial_index, paths.partial)
    if index is None:
        return ()
    kept = common_prefix(index.entries, files) if index.header == header else ()
    if kept:
        log.info("%s: going on after %d of %s", paths.output, len(kept), counted(len(files), "file"))
    elif index.entries:
        log.info("%s: what was begun of it has other lines: begun anew", paths.output)
    return kept


@contextmanager
def _claimed(paths: MergePaths, ops: MergeOps) -> Iterator[Hold]:
    mine = Claim.of_this_process(uuid.uuid4().hex[:ATTEMPT_DIGITS])
    hold = Hold.take(ops, paths.claim, mine, name=str(paths.output), gone=nobody_knows)
    try:
        for path in paths.litter():
            ops.unlink(path)
        yield hold
    finally:
        hold.let_go()
        if read_claim(paths.claim) == mine:
            for path in paths.litter():
                ops.unlink(path)
            ops.unlink(paths.claim)


def _check_mine(paths: MergePaths, hold: Hold) -> None:
    if read_claim(paths.claim) != hold.mine:
        raise ClaimLostError(f"{paths.output}: another merge has taken it over; this one stops")


@dataclass(frozen=True, slots=True)
class _Work:
    """Appends members."""

    growing: Growing
    paths: MergePaths
    header: Header
    attempt: str
    workers: int
    tell: Tell
    ops: MergeOps

    def fill(self, files: Sequence[CommittedFile], finished: Index | None) -> int:
        """Append the members of `files`, copying those in `finished`; returns how many were made."""
        known = reusable(finished)
        new = [file for file in files if _key(file) not in known]
        if finished is not None:
            log.info(
                "%s: %s new or changed; what it has of the others is copied", self.paths.output, counted(len(new), "file")
            )
        with ExitStack() as stack:
            source = stack.enter_context(self.paths.output.open("rb")) if len(new) < len(files) else None
            make = self._make if min(self.workers, len(new)) <= 1 else self._taken_from(self._parts(new, stack))
            for file in files:
                found = known.get(_key(file))
                if found is not None and source is not None:
                    start, entry = found
                    self.growing.copy(source.fileno(), start, entry.end - start)
                    self.tell(file.bytes, before=True)
                    self.growing.add(file, Made(entry.lines, entry.left_out))
                else:
                    self.growing.add(file, make(file))
        if not any(entry.lines for entry in self.growing.entries):
            raise UsageError(_no_lines(self.header, self.growing.entries))
        return len(new)

    def _make(self, file: CommittedFile) -> Made:
        return make_member(file, self.header.shape, self.header.compression, self.growing.put, tell=self.tell)

    def _parts(self, files: Sequence[CommittedFile], stack: ExitStack) -> Iterator[tuple[Path, Made]]:
        tasks = [
            PartTask(file, self.paths.part(self.attempt, number), self.header.shape, self.header.compression)
            for number, file in enumerate(files)
        ]
        return stack.enter_context(closing(make_parts(tasks, min(self.workers, len(tasks)), self.tell)))

    def _taken_from(self, parts: Iterator[tuple[Path, Made]]) -> Callable[[CommittedFile], Made]:
        def take(_file: CommittedFile) -> Made:
            path, made = next(parts)
            with path.open("rb") as part:
                self.growing.copy(part.fileno(), 0, os.fstat(part.fileno()).st_size)
            self.ops.unlink(path)
            return made

        return take


def _key(file: CommittedFile) -> tuple[str, str]:
    return file.name, file.manifest.output_sha256


def _no_lines(header: Header, entries: Sequence[Entry]) -> str:
    merged = Merged(tuple(entries), 0, 0)
    left_out = ", ".join(f"{kind} {number:,}" for kind, number in merged.left_out.items())
    found = f"all clips are left out ({left_out})" if left_out else "no file has a line"
    shape = f"--shape {header.shape}: " if header.shape else ""
    return f"{shape}expected lines in {counted(len(entries), 'committed file')}, found none: {found}; nothing is written"
