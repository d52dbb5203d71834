"""The partial: append, repair, take over, commit. Every durable write of a result is here.

    .NAME.jsonl.partial.ATTEMPT   what one attempt writes, under a name that nobody else uses
    NAME.jsonl.partial            a second name of the latest attempt's file: whole lines, resumable at the next clip
    NAME.jsonl                    committed by one rename of the private name
    NAME.jsonl.previous           a file whose error records are being retried: its good lines are used again; also what
                                  tools.adopt found beyond the first clip that is to be made again
    NAME.safetensors              floats beside the lines, where the backend gives any: jobs/features.py
    .run/attempts/NAME.json       what is known of the partial        .run/manifests/NAME.json   of the committed file
    .run/attempts/.NAME.sums.ATTEMPT   what its lines were when they were written: jobs/line_sums.py
    .run/attempts/.NAME.clip.ATTEMPT   what there is of a long clip that has no line yet: jobs/clip_journal.py
    .run/claims/NAME.json         who works on it

Why two writers are harmless, whatever either of them sees: an attempt writes only into a file that it created, and commits
that file, under its private name, once it has written every line of the tar. So any commit, however late, puts a complete
file in place, with the bytes that any other attempt would have committed. A manifest is written right before a commit and
at no other time, so it describes either file. Whatever else a late worker replaces or removes (the partial, the attempt, the
claim) costs lines that are made again, never a wrong line. A takeover removes the private names of earlier attempts: their
commit then finds nothing to rename, which tells them that they were overtaken. Checking the claim only tells them sooner.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from audio_tokenizers.base import Features, Field
from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.channels import ADOPTED
from jobs.claims import Claim, Hold, nobody_knows, read_claim
from jobs.clip_journal import ClipJournal
from jobs.devices import CPU, DeviceName
from jobs.features import FeatureFile, FeatureSource
from jobs.fileops import FileOps, write_atomically
from jobs.line_file import LineFile, ReusableLines, good_lines
from jobs.line_sums import DAMAGED, SumsCheck, read_sums, sum_entry
from jobs.makers import join_makers, makers_of
from jobs.manifest import VERDICT_COMPLETE, Findings, Maker, Manifest
from jobs.progress import DeviceSeconds
from jobs.record_fields import FeatureRef, feature_refs
from jobs.records import Record, Tally, TokenRecord, decode_record, with_tar_file
from jobs.tar_paths import ATTEMPT_DIGITS, TarPaths, is_attempt, read_manifest
from jobs.tar_task import InputIdentity
from jobs.token_counter import ClipTokens, TokenCounter
from jobs.token_statistics import CommittedManifest

__all__ = ["Ledger"]

SYNC_SECONDS = 2.0

log = logging.getLogger("tar2tokens")


class Ledger:
    """One attempt's hold on the output of one tar. Begin with `take`, end with `commit` or `release`."""

    def __init__(
        self,
        paths: TarPaths,
        identity: InputIdentity,
        fingerprint: str,
        fields: Sequence[Field],
        *,
        hold: Hold,
        ops: FileOps,
        clock: Callable[[], float],
        device_seconds: Callable[[], DeviceSeconds],
        device: DeviceName = CPU,
    ) -> None:
        self.paths = paths
        self.tally = Tally()
        self.done: list[str] = []
        """Names of the clips that already have a line, in tar order, as found when the partial was taken over."""
        self._identity = identity
        self._fingerprint = fingerprint
        self._fields = fields
        self._ops = ops
        self._clock = clock
        self._started = clock()
        self._synced = self._started
        self._hold = hold
        self._attempt = hold.mine.attempt
        self._private = paths.private_partial(self._attempt)
        self._sums = paths.private_sums(self._attempt)
        self._lines: LineFile | None = None
        self._tokens = TokenCounter(fields)
        self._device = device
        self._makers: tuple[Maker, ...] = ()
        """Of the lines in `done`."""
        self._kept = 0
        """Lines that this attempt has written and no worker has made now: from before --retry-errors, or adopted."""
        self._wall_before = 0.0
        self._new_device_seconds = device_seconds
        self._device_seconds = DeviceSeconds()
        self._replaces_foreign = False
        """The file that is committed now was made from another tar."""
        self._reusable: ReusableLines | None = None
        self._features: FeatureFile | None = None
        self.journal = ClipJournal(
            paths.private_journal(self._attempt),
            identity,
            fingerprint,
            fields[0],
            ops=ops,
            clock=clock,
            check_mine=self._check_mine,
        )
        """Of the long clip in hand, if there is one."""

    @classmethod
    def take(
        cls,
        paths: TarPaths,
        identity: InputIdentity,
        fingerprint: str,
        fields: Sequence[Field],
        *,
        retry_errors: bool = False,
        task: str = "",
        gone: Callable[[str], bool] = nobody_knows,
        ops: FileOps | None = None,
        clock: Callable[[], float] = time.monotonic,
        device_seconds: Callable[[], DeviceSeconds] = DeviceSeconds,
        device: DeviceName = CPU,
    ) -> Ledger:
        """Claim a tar for `task`, repair its partial and take it over. `gone` says whether a task is known to have ended;
        `device_seconds` returns what the worker's `device` has done since its last call.

        Raises ClaimLostError if another worker holds the claim (jobs/claims.py says when) or the tar is committed,
        UsageError if the output was made with another recipe.
        """
        ops = ops or FileOps()
        hold = Hold.take(ops, paths.claim, Claim.of_this_process(_new_attempt(), task), name=paths.name, gone=gone)
        ledger = cls(
            paths,
            identity,
            fingerprint,
            fields,
            hold=hold,
            ops=ops,
            clock=clock,
            device_seconds=device_seconds,
            device=device,
        )
        try:
            ledger._begin(retry_errors=retry_errors)
        except BaseException:
            ledger.abandon()
            raise
        return ledger

    def _begin(self, *, retry_errors: bool) -> None:
        committed = self._is_committed()
        if committed and not retry_errors:
            self._sweep_up()
            self._sweep(self.paths.private_journals())
            self.tidy(self.paths, self._ops)
            raise ClaimLostError(f"{self.paths.name}: another worker has committed it")
        known = self._what_is_known(committed=committed)
        if known is None or not self._identity.matches(known):
            self._forget()
            self._replaces_foreign = committed
            known = None
        elif retry_errors:
            self._set_aside(known, committed=committed)
        if known is not None:
            self._wall_before, self._device_seconds = known.wall_seconds, known.device_seconds
        self._take_over(known)
        if known is not None and not self.paths.previous.exists():  # else some of the lines are even older
            self._makers = makers_of(known.made_by, len(self.done) - self.tally.notes.get(ADOPTED, 0))
        # Only now: an attempt at this tar must never stand beside a partial of another one.
        self._write_manifest(self.paths.attempt, self._manifest_so_far())
        self._check_mine()
        self._sweep(self._sums_found(known))
        journals = self._journals_found(known)
        self.journal.take_over(journals, first=len(self.done))
        self._sweep(journals)
        if self._features is None:  # the floats of old lines are gone with their file: all clips are encoded again
            self._reusable = self._previous_lines()

    def _what_is_known(self, *, committed: bool) -> Manifest | None:
        """The manifest of the lines that this attempt begins with: their tar and recipe."""
        manifest, attempt = read_manifest(self.paths.manifest), read_manifest(self.paths.attempt)
        for path, found in ((self.paths.manifest, manifest), (self.paths.attempt, attempt)):
            if found is not None and found.fingerprint != self._fingerprint:
                raise UsageError(
                    f"{path}: made with the recipe {found.fingerprint}, this run has {self._fingerprint}: "
                    "two recipes are two data sets, use another --output-dir"
                )
        return manifest if committed else attempt or manifest

    def _forget(self) -> None:
        """Remove lines that cannot be shown to come from this tar and recipe."""
        self._ops.unlink(self.paths.partial)
        self._forget_previous()
        if self._has_features:
            self._ops.unlink(self.paths.features_partial)

    def _forget_previous(self) -> None:
        self._ops.unlink(self.paths.previous)
        self._ops.unlink(self.paths.previous_sums)

    @property
    def _has_features(self) -> bool:
        return any(field.form == "features" for field in self._fields)

    def _set_aside(self, known: Manifest, *, committed: bool) -> None:
        """Set the lines so far aside for --retry-errors, and begin a new partial."""
        if committed:
            self._forget()  # older than the committed file, or a second name of it
            self._ops.fsync_dir(self.paths.committed.parent)
            self._rename(self.paths.committed, self.paths.previous)
        elif self.paths.partial.exists() and not self.paths.previous.exists():
            check = self._check(known)
            with self.paths.partial.open("rb") as file:
                sums = [check.last for _ in good_lines(file, self._fields, check)]
            write_atomically(self._ops, self.paths.previous_sums, b"".join(map(sum_entry, sums)))
            self._rename(self.paths.partial, self.paths.previous)
        else:
            return
        self._ops.fsync_dir(self.paths.previous.parent)

    def _previous_lines(self) -> ReusableLines:
        """Good lines from before --retry-errors: a partial is checked by its sums, a committed file by its manifest."""
        check, sha256 = SumsCheck(), ""
        if self.paths.previous_sums.exists():
            check = SumsCheck([[*read_sums(self.paths.previous_sums), DAMAGED]])
        elif (manifest := read_manifest(self.paths.manifest)) is not None:
            sha256 = manifest.output_sha256
        return ReusableLines(self.paths.previous, self._fields, check, sha256=sha256)

    def _sums_found(self, known: Manifest | None) -> set[Path]:
        """Files with the sums of earlier attempts."""
        return {*self.paths.all_private_sums(), *map(self.paths.private_sums, self._attempts_before(known))} - {self._sums}

    def _journals_found(self, known: Manifest | None) -> set[Path]:
        """Journals of earlier attempts."""
        named = map(self.paths.private_journal, self._attempts_before(known))
        return {*self.paths.private_journals(), *named} - {self.journal.path}

    def _attempts_before(self, known: Manifest | None) -> Iterable[str]:
        """Earlier attempts that are known by name: the listing of a folder may be seconds old."""
        attempts = [self._attempt_before] if known is None else [self._attempt_before, known.attempt]
        return filter(is_attempt, attempts)

    @property
    def _attempt_before(self) -> str:
        """The attempt whose claim was taken over, as its file has it: unchecked text."""
        return self._hold.overtaken.attempt if self._hold.overtaken is not None else ""

    def _check(self, known: Manifest | None) -> SumsCheck:
        return SumsCheck(map(read_sums, sorted(self._sums_found(known))))

    def _take_over(self, known: Manifest | None) -> None:
        check = self._check(known)
        self._lines = LineFile(self._private, self._sums, self._ops)
        if self._has_features:
            self._features = FeatureFile(self.paths, self._attempt, self._ops)
        source = FeatureSource(self.paths.features_partial)
        with closing(source):
            for old_line, record in self._lines_found(check):
                line = with_tar_file(old_line, record, self._identity.tar_file)  # it may have moved since
                if line is None:
                    break
                if self._features is not None and isinstance(record, TokenRecord):
                    refs = feature_refs(self._fields, record.values)
                    arrays = source.read(refs)
                    if arrays is None:  # a power loss took them, and left the line
                        break
                    self._features.append(refs, arrays)
                self.done.append(record.audio_file)
                self.tally.add(record)
                self._tokens.add(record)
                self._lines.write((line, b"\n"))
        if check.contradicted:
            log.warning(
                "%s: line %d of the partial is not what was written: it is made again, with those after it",
                self.paths.name,
                check.lines + 1,
            )
        self._sync_files()
        self._ops.fsync_dir(self._sums.parent)
        self._check_mine()  # copying takes a while
        if self._features is not None:
            self._publish(self._features.private, self.paths.features_partial)
        self._publish(self._private, self.paths.partial)
        self._ops.fsync_dir(self.paths.partial.parent)
        self._check_mine()  # a worker that slept here would otherwise remove its successor's files
        self._sweep_up()

    def _lines_found(self, check: SumsCheck) -> Iterator[tuple[bytes, Record]]:
        """The good lines of the partial that this attempt begins with, if there is one."""
        try:
            file = self.paths.partial.open("rb")
        except FileNotFoundError:
            return
        with file:
            yield from good_lines(file, self._fields, check)

    def _publish(self, private: Path, partial: Path) -> None:
        """Give the private file the name of the partial too, atomically."""
        second = partial.with_name(f".{partial.name}.{_new_attempt()}")
        self._in_place(self._ops.link, private, second)
        self._rename(second, partial)

    def _sweep_up(self) -> None:
        """Remove the private names of earlier attempts, dead or overtaken."""
        before = set(self.paths.private_partials())
        if is_attempt(self._attempt_before):  # a list of a folder may be seconds old
            before.add(self.paths.private_partial(self._attempt_before))
        if self._has_features:
            before |= set(self.paths.private_feature_files())
        self._sweep(before)

    def _sweep(self, paths: Iterable[Path]) -> None:
        """Remove these files, except this attempt's own."""
        mine = {self._private, self._sums, self.journal.path}
        if self._features is not None:
            mine |= {self._features.private, self._features.finished}
        for path in set(paths) - mine:
            self._ops.unlink(path)

    def reusable_line(self, index: int, clip_name: str) -> bytes | None:
        """The clip's line from before --retry-errors, if it had tokens."""
        line = self._reusable.line(index, clip_name) if self._reusable is not None else None
        return with_tar_file(line, decode_record(line), self._identity.tar_file) if line is not None else None

    def append(
        self,
        record: Record,
        parts: Iterable[bytes],
        features: Sequence[tuple[FeatureRef, Features]] = (),
        *,
        tokens: Callable[[], ClipTokens] | None = None,
        kept: bool = False,
    ) -> None:
        """Append one line, given as bytes without the newline, and its arrays; fsync when SYNC_SECONDS have passed.

        `tokens` returns what the clip became, and is called after the last of `parts`; without it, `record` has its values.
        `kept`: the line was made before, and not by this worker: `made_by` does not count it.
        """
        if self._features is not None:
            self._features.append([ref for ref, _ in features], [array for _, array in features])
        self._written().write(itertools.chain(parts, (b"\n",)))
        had_journal = self.journal.clip == self.tally.clips
        self.tally.add(record)
        self._tokens.add(record, tokens)
        self._kept += kept or (isinstance(record, TokenRecord) and ADOPTED in record.notes)
        if had_journal:
            self.sync()  # first: a power loss may take the line until then
            self.journal.forget()
        elif self._clock() - self._synced >= SYNC_SECONDS:
            self.sync()

    def _written(self) -> LineFile:
        assert self._lines is not None, "an attempt begins with _take_over"
        return self._lines

    def sync(self) -> None:
        """Make all lines so far survive a power loss."""
        self._sync_files()
        self._synced = self._clock()

    def _sync_files(self) -> None:
        if self._features is not None:
            self._features.sync()
        self._written().sync()

    def commit(self, findings: Findings = Findings()) -> Manifest:
        """The tar was read to a proper end: make the partial the committed file. `findings` go into the manifest, with the
        verdict `complete`.
        """
        self.sync()
        manifest = msgspec.structs.replace(self._summary(findings), verdict=VERDICT_COMPLETE)
        if self._features is not None:
            written = self._features.finish()
            manifest = msgspec.structs.replace(manifest, features_bytes=written.size, features_sha256=written.sha256)
        self._check_mine()
        self._sweep(self.paths.temporary_files())
        self.journal.forget()
        if self._replaces_foreign:
            self._ops.unlink(self.paths.committed)  # a crash would otherwise leave it beside the manifest of the new one
            self._ops.fsync_dir(self.paths.committed.parent)
        counted = CommittedManifest(**msgspec.structs.asdict(manifest), tokens=self._tokens.statistics())
        self._write_manifest(self.paths.manifest, counted)
        self._check_mine()
        if self._features is not None:  # first, and durably: lines without their floats are incomplete
            self._rename(self._features.finished, self.paths.features)
            self._ops.fsync_dir(self.paths.committed.parent)
        self._rename(self._private, self.paths.committed)
        self._ops.fsync_dir(self.paths.committed.parent)
        self._forget_previous()
        self._ops.unlink(self.paths.attempt)
        self._ops.unlink(self._sums)
        if self._is_published():
            if self._features is not None:
                self._ops.unlink(self.paths.features_partial)
            self._ops.unlink(self.paths.partial)
        self._remove_private()
        self._end()
        return manifest

    def release(self, findings: Findings = Findings()) -> Manifest:
        """End the attempt without a commit: the partial stays, resumable at the next clip."""
        self.sync()
        manifest = self._summary(findings)
        self._check_mine()
        self._write_manifest(self.paths.attempt, manifest)
        self._remove_private()
        self._end()
        return manifest

    def leave_for_next(self, lines: Iterable[bytes]) -> None:
        """Leave lines beyond the partial, which the next attempt uses as those from before --retry-errors.

        `lines` are records with their newlines, one for each clip from the tar's first on; an error record stands for a clip
        that has no line yet.
        """
        private, sums = self.paths.private_previous(self._attempt)
        kept = LineFile(private, sums, self._ops)
        try:
            for line in lines:
                kept.write((line,))
            kept.sync()
        finally:
            kept.close()
        self._check_mine()
        for source, target in ((sums, self.paths.previous_sums), (private, self.paths.previous)):
            self._rename(source, target)
            self._ops.fsync_dir(target.parent)

    def start_over(self) -> None:
        """End the attempt and remove the partial, which turned out to be another tar's."""
        self._check_mine()
        self._forget()
        self._ops.unlink(self._sums)
        self.journal.forget()
        self._remove_private()
        self._end()

    def _remove_private(self) -> None:
        if self._features is not None:
            self._features.remove()
        self._ops.unlink(self._private)

    @staticmethod
    def erase(paths: TarPaths, ops: FileOps) -> None:
        """Remove everything about a tar (--force)."""
        lines = (paths.committed, paths.partial, paths.previous, paths.attempt, paths.manifest)
        private = (*paths.all_private_sums(), *paths.private_journals())
        for path in (*lines, paths.features, paths.features_partial, paths.previous_sums, *private):
            ops.unlink(path)

    @staticmethod
    def tidy(paths: TarPaths, ops: FileOps) -> None:
        """Remove what a worker left that was killed right after its commit: the partial as a second name of the result."""
        with suppress(FileNotFoundError):
            if paths.partial.samefile(paths.committed):
                sums = (paths.previous_sums, *paths.all_private_sums())
                for path in (paths.previous, paths.attempt, *sums, paths.features_partial, paths.partial):
                    ops.unlink(path)

    def abandon(self) -> None:
        """End the attempt after the claim was lost, or when nothing can be written any more."""
        try:
            with suppress(OSError):
                self._remove_private()
            with suppress(OSError, ClaimLostError):
                try:
                    self._check_mine()
                except ClaimLostError:
                    self.journal.forget()  # no other attempt looks for it
                    raise
                self._hold.give_back()
        finally:
            self._close()

    def _end(self) -> None:
        self._hold.give_back()
        self._close()

    def _close(self) -> None:
        self._hold.let_go()
        self.journal.close()
        if self._reusable is not None:
            self._reusable.close()
        if self._features is not None:
            self._features.close()
        if self._lines is not None:
            self._lines.close()

    def _is_committed(self) -> bool:
        return self.paths.committed.exists()

    def _check_mine(self) -> None:
        holder = read_claim(self.paths.claim)
        if holder is None or holder.attempt != self._attempt:
            raise ClaimLostError(f"{self.paths.name}: another worker has taken it over; this one stops")

    def _is_published(self) -> bool:
        """Whether the partial is this attempt's file."""
        with suppress(FileNotFoundError):
            return self._written().is_at(self.paths.partial)
        return False

    def _rename(self, source: Path, target: Path) -> None:
        self._in_place(self._ops.rename, source, target)

    def _in_place(self, operation: Callable[[Path, Path], None], source: Path, target: Path) -> None:
        try:
            operation(source, target)
        except FileNotFoundError:  # removed or renamed by another worker
            raise ClaimLostError(f"{self.paths.name}: another worker has taken it over; this one stops") from None

    def _manifest_so_far(self) -> Manifest:
        """The manifest as far as it is known before the tar is read."""
        return Manifest(
            tar_file=self._identity.tar_file,
            input_bytes=self._identity.size,
            input_mtime_ns=self._identity.mtime_ns,
            input_version=self._identity.version,
            fingerprint=self._fingerprint,
            attempt=self._attempt,
            made_by=self._made_by(),
            wall_seconds=round(self._wall_before, 3),
            device_seconds=self._device_seconds.rounded(),
        )

    def _made_by(self) -> tuple[Maker, ...]:
        mine = self._hold.mine
        clips = self.tally.clips - len(self.done) - self._kept
        this = Maker(node=mine.host, device=self._device.name, gpu=self._device.gpu, task=mine.task, clips=clips)
        return join_makers(self._makers, this)

    def _summary(self, findings: Findings) -> Manifest:
        wall = self._wall_before + self._clock() - self._started
        self._device_seconds += self._new_device_seconds()
        return msgspec.structs.replace(
            self._manifest_so_far(),
            wall_seconds=round(wall, 3),
            clips=self.tally.clips,
            errors=dict(sorted(self.tally.errors.items())),
            damaged_clips=self.tally.damaged_clips,
            damaged_seconds=round(self.tally.damaged_seconds, 3),
            notes=dict(sorted(self.tally.notes.items())),
            audio_seconds=round(self.tally.audio_seconds, 3),
            output_bytes=self._written().size,
            output_sha256=self._written().sha256,
            **msgspec.structs.asdict(findings),
        )

    def _write_manifest(self, path: Path, manifest: Manifest) -> None:
        write_atomically(self._ops, path, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def _new_attempt() -> str:
    return uuid.uuid4().hex[:ATTEMPT_DIGITS]
