"""One tar on its way to its committed file: its reading, and the lines that the caller of `advance` writes.

Lines are written in the tar's order, in whatever order clips are decoded and encoded. A tar that has been read to its end
may wait for its last clips while those of the next tar are read (jobs/tokenize.py).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from jobs.attempt_errors import AttemptErrors
from jobs.clip_journal import JournalMismatchError, LongClip
from jobs.clip_lines import write_line
from jobs.conveyor import Conveyor
from jobs.ledger import Ledger
from jobs.manifest import Manifest
from jobs.pending import Pending
from jobs.progress import DeviceSeconds, Kept
from jobs.records import ErrorRecord, Record
from jobs.remote_tar import TarChangedError
from jobs.spec import TokenizeSpec
from jobs.tar_findings import findings_of
from jobs.tar_paths import TarPaths
from jobs.tar_reading import PartialMismatchError, TarReading, encoded_seconds
from jobs.tar_source import TarSource
from jobs.tar_task import InputIdentity, TarOptions

__all__ = ["OnEncoded", "OnKept", "OnProgress", "Outcome", "TarResult", "TarWork", "WrittenMeanwhileError"]

Outcome = Literal["committed", "yielded", "damaged"]
OnProgress = Callable[[Record, int], None]
"""Called after each line with its record and the bytes of the tar used so far."""
OnEncoded = Callable[[float, int], None]
"""Called with the seconds of audio that became tokens since the last call, and the bytes of the tar used so far: before each
line, and after part of a long clip went into the journal."""
OnKept = Callable[[Kept], None]
"""Called after part of a long clip went into the journal."""


@dataclass(frozen=True, slots=True)
class TarResult:
    """How an attempt at a tar ended, other than by an exception."""

    outcome: Outcome
    manifest: Manifest


class WrittenMeanwhileError(UsageError):
    """The tar was written to while it was read, so its lines may be from either version."""


class TarWork:
    """One attempt at one tar. After `start`, call `advance` until it has a result; or `leave` it, or `fail` it."""

    def __init__(
        self,
        tar: TarSource,
        paths: TarPaths,
        spec: TokenizeSpec,
        conveyor: Conveyor,
        options: TarOptions = TarOptions(),
        *,
        on_progress: OnProgress = lambda _record, _bytes: None,
        on_encoded: OnEncoded = lambda _seconds, _bytes: None,
        on_kept: OnKept = lambda _kept: None,
        take: Callable[..., Ledger] = Ledger.take,
        device_seconds: Callable[[], DeviceSeconds] = DeviceSeconds,
    ) -> None:
        """`device_seconds` returns what the device has done since its last call: the share of the tar that ends now."""
        self.options = options
        self._tar = tar
        self._paths = paths
        self._spec = spec
        self._conveyor = conveyor
        self._on_progress = on_progress
        self._on_encoded = on_encoded
        self._on_kept = on_kept
        self._take = functools.partial(take, device_seconds=device_seconds)
        self._begun_anew = False
        self._identity: InputIdentity | None = None
        self._ledger: Ledger | None = None
        self._reading: TarReading | None = None
        self._errors = AttemptErrors(tar, paths)

    @property
    def read_to_end(self) -> bool:
        """The reading thread has ended."""
        return self._reading is not None and self._reading.ended

    def start(self) -> None:
        """Claim the tar, take its partial over and begin to read.

        Raises ClaimLostError, UsageError (another recipe), WrittenMeanwhileError, InfrastructureError (the machine is in
        trouble; the partial stays good) and OSError where the tar cannot be opened; as do all other methods.
        """
        with self._settling():
            self._start(retry_errors=self.options.retry_errors)

    def _start(self, *, retry_errors: bool) -> None:
        activities = self._conveyor.activities
        with activities.doing("read", tar=self._paths.name, about=str(self._tar)):
            identity = self._identity = self._look()
        spec = self._spec
        with activities.doing("write", about=str(self._paths.partial)), self._errors.storing():
            ledger = self._ledger = self._take(
                self._paths, identity, spec.fingerprint, spec.fields, retry_errors=retry_errors
            )
        self._reading = TarReading(self._tar, self._paths.name, spec, self._conveyor, self.options, ledger, self._errors)
        self._reading.start()

    def _look(self) -> InputIdentity:
        try:
            return InputIdentity.opened(self._tar)
        except OSError as error:
            self._errors.note_tar_error(error)
            raise

    def advance(self, *, leads: bool = True) -> TarResult | None:
        """Write the lines of finished clips; end the attempt after the last. `leads`: no other tar's lines come first."""
        with self._settling():
            reading = self._clips()
            self._write_finished(reading, leads=leads)
            if reading.trouble is not None:
                trouble, reading.trouble = reading.trouble, None
                if isinstance(trouble, TarChangedError):
                    self._start_over()
                    raise WrittenMeanwhileError(str(trouble))
                if not isinstance(trouble, PartialMismatchError):
                    raise trouble
                self._begin_anew()
            elif reading.ended and not reading.queue:
                return self._finish()
        return None

    def _write_finished(self, reading: TarReading, *, leads: bool) -> None:
        while reading.queue:
            pending = reading.queue[0]
            if not pending.finished:
                if leads and not pending.share.due:
                    self._conveyor.lead(pending.share)
                self._keep(pending)
                return
            if pending.trouble is not None:
                if isinstance(pending.trouble, JournalMismatchError):
                    self._held().journal.forget()
                raise pending.trouble
            reading.queue.popleft()
            with (
                pending.sink,
                self._conveyor.activities.doing("write", about=str(self._paths.partial)),
                self._errors.storing(),
            ):
                record = write_line(self._held(), pending, str(self._tar), self._spec)
            reading.let_go(pending)
            if self.options.one_at_a_time:
                self._conveyor.call(reading.next_turn)  # after a look at whether to stop
            self._tell_encoded(pending, 0.0 if isinstance(record, ErrorRecord) else record.num_samples / record.sample_rate)
            self._on_progress(record, pending.tar_bytes)

    def _keep(self, pending: Pending, *, now: bool = False) -> None:
        """Put the codes of a long clip so far into its journal, if it is time or `now`."""
        if pending.member is None:
            return
        clip, journal = LongClip(pending.clip.index, pending.clip.name, pending.member), self._held().journal
        if not (journal.is_time(clip, pending.sink.unkept_bytes) or now) or pending.taken == pending.kept:
            return
        with self._conveyor.activities.doing("write", about=str(journal.path)), self._errors.storing():
            added = journal.add(clip, pending.kept, pending.taken, pending.sink.take_unkept())
        if added:
            pending.kept = pending.taken
            self._tell_encoded(pending, encoded_seconds(pending, self._spec))
            self._on_kept(Kept(clip.index, pending.resumed_at, pending.kept))

    def _tell_encoded(self, pending: Pending, seconds: float) -> None:
        """Report audio that became tokens."""
        self._on_encoded(max(0.0, seconds - pending.told_seconds), self._clips().bytes_used(pending))
        pending.told_seconds = seconds

    def _begin_anew(self) -> None:
        """Begin again without the lines found, which are another tar's. Once only."""
        if self._begun_anew:
            self._refuse_if_written_to()
            raise InfrastructureError(f"{self._tar}: its clips change from one reading to the next")
        self._begun_anew = True
        self._stop_reading()
        self._start_over()
        self._start(retry_errors=False)

    def _finish(self) -> TarResult:
        reading = self._clips()
        reading.stop()
        with self._conveyor.activities.doing("read", tar=self._paths.name, about=str(self._tar)):
            self._refuse_if_written_to()
        with self._conveyor.activities.doing("write", about=str(self._paths.committed)), self._errors.storing():
            findings = findings_of(reading.reader, reading.damage)
            if reading.damage is not None:
                return TarResult("damaged", self._held().release(findings))
            return TarResult("committed", self._held().commit(findings))

    def _refuse_if_written_to(self) -> None:
        """Raise WrittenMeanwhileError, and forget all lines, if the tar is not what it was when this attempt began.

        A tar that has been removed was read to its end all the same.
        """
        assert self._identity is not None, "an attempt begins with `start`"
        try:
            now = self._look()
        except FileNotFoundError:
            return
        if self._identity.written_to(now):
            self._start_over()
            raise WrittenMeanwhileError(f"{self._tar}: it was written to while it was read; once that is over, try again")

    def _start_over(self) -> None:
        with self._errors.storing():
            self._held().start_over()
        self._ledger = None

    def leave(self) -> TarResult:
        """End the attempt here: the partial stays, resumable at the next clip, or within one that is long."""
        with self._settling():
            queue = self._clips().queue
            if queue and not queue[0].finished:
                self._keep(queue[0], now=True)
            self._stop_reading()
            with self._errors.storing():
                return TarResult("yielded", self._held().release())

    def fail(self, trouble: BaseException) -> None:
        """End the attempt because of trouble elsewhere, which is raised with this tar's name."""
        with self._settling():
            raise trouble

    def close(self) -> None:
        """End the attempt while another exception propagates, keeping what can be kept."""
        self._stop_reading()
        if self._ledger is not None:
            _leave(self._ledger)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.stop()

    def _clips(self) -> TarReading:
        assert self._reading is not None, "an attempt begins with `start`"
        return self._reading

    def _held(self) -> Ledger:
        assert self._ledger is not None, "an attempt begins with `start`"
        return self._ledger

    @contextlib.contextmanager
    def _settling(self) -> Iterator[None]:
        """End the attempt properly before an exception leaves the block."""
        try:
            yield
        except BaseException as error:
            self._stop_reading()
            self._settle(error)
            raise

    def _settle(self, error: BaseException) -> None:
        """Keep what can be kept, and raise trouble with the machine under its name."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            if isinstance(error, Tar2TokensError):
                ledger.abandon()
            else:
                _leave(ledger)
        self._errors.raise_trouble(error)


def _leave(ledger: Ledger) -> None:
    """Keep what can be kept after an exception."""
    try:
        ledger.release()
    except (OSError, Tar2TokensError):
        ledger.abandon()
