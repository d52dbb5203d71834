"""One tar on its way to its committed file: a thread reads its clips, and the caller of `advance` writes their lines.

Lines are written in the tar's order, in whatever order clips are decoded and encoded. A tar that has been read to its end
may wait for its last clips while those of the next tar are read (jobs/tokenize.py).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Literal

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from audio_tokenizers.shared.wording import counted
from jobs.activities import Step
from jobs.channels import SPLIT
from jobs.clip_group import Clip
from jobs.clip_journal import JournalMismatchError, LongClip, code_type, member_sum
from jobs.clip_lines import known_error, write_line
from jobs.conveyor import Conveyor
from jobs.fileops import is_disk_trouble, output_error, public_name
from jobs.ledger import Ledger
from jobs.manifest import Manifest
from jobs.parts import Cutting, FinishedMembers
from jobs.pending import Pending
from jobs.progress import DeviceSeconds, Kept
from jobs.records import ErrorRecord, Record
from jobs.remote_tar import TarChangedError
from jobs.sequence_counter import SequenceCounter
from jobs.spec import TokenizeSpec
from jobs.tar_findings import findings_of
from jobs.tar_format import TarDamage
from jobs.tar_paths import TarPaths
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource
from jobs.tar_task import InputIdentity
from jobs.token_sink import TokenSink

__all__ = ["OnEncoded", "OnKept", "OnProgress", "Outcome", "TarOptions", "TarResult", "TarWork", "WrittenMeanwhileError"]

Outcome = Literal["committed", "yielded", "damaged"]
OnProgress = Callable[[Record, int], None]
"""Called after each line with its record and the bytes of the tar used so far."""
OnEncoded = Callable[[float, int], None]
"""Called with the seconds of audio that became tokens since the last call, and the bytes of the tar used so far: before each
line, and after part of a long clip went into the journal."""
OnKept = Callable[[Kept], None]
"""Called after part of a long clip went into the journal."""

READER_SECONDS = 5.0
"""How long to wait for a reading thread to end. One that hangs in a dead file system is left behind."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class TarResult:
    """How an attempt at a tar ended, other than by an exception."""

    outcome: Outcome
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class TarOptions:
    """How to work on one tar."""

    retry_errors: bool = False
    """Try clips again that have error records."""
    allow_missing_end: bool = False
    """Accept a tar that lacks only its end marker."""
    allow_joined: bool = False
    """Accept several tars in one file, end to end."""
    crash_clips: Collection[int] = ()
    """Clips, from 0, that killed workers: each becomes an error record of kind `crash` without being decoded."""
    timed_out: Collection[int] = ()
    """Those of them that never finished: their records are of kind `timeout`."""
    one_at_a_time: bool = False
    """Read no clip before the previous one has its line: if the process dies, the lines show at which clip."""


class WrittenMeanwhileError(UsageError):
    """The tar was written to while it was read, so its lines may be from either version."""


class _PartialMismatchError(Exception):
    """The partial's lines do not name this tar's clips."""


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
        self.read_to_end = False
        """The reading thread has ended."""
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
        self._queue: deque[Pending] = deque()
        self._member = (0, 0)
        """Bytes of the tar up to the member whose clips are being written, and up to that member's end."""
        self._reading: threading.Thread | None = None
        self._reader: TarReader | None = None
        self._turn = threading.Event()
        """Set when the next clip may be read, in `one_at_a_time`."""
        self._passing = threading.Lock()
        self._dropped = False
        """No more clips are passed on. Guarded by `_passing`."""
        self._trouble: BaseException | None = None
        self._damage: TarDamage | None = None
        self._of_the_tar: OSError | None = None
        """The error of reading the tar itself, if that is what failed; any other OSError is the machine's."""
        self._of_the_output: OSError | None = None
        """The error of writing results, or reading them back."""

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
        with activities.doing("write", about=str(self._paths.partial)), self._storing():
            ledger = self._ledger = self._take(
                self._paths, identity, spec.fingerprint, spec.fields, retry_errors=retry_errors
            )
        self._reader = None
        self._reading = threading.Thread(target=self._read, args=(ledger,), name=f"reader of {self._tar}", daemon=True)
        self._reading.start()

    def _look(self) -> InputIdentity:
        try:
            return InputIdentity.opened(self._tar)
        except OSError as error:
            self._of_the_tar = error
            raise

    def _read(self, ledger: Ledger) -> None:
        """The reading thread."""
        trouble: BaseException | None = None
        try:
            with self._conveyor.activities.doing("read", tar=self._paths.name, about=str(self._tar)) as step:
                self._read_clips(ledger, step)
        except BaseException as error:  # noqa: BLE001 (`advance` raises it)
            trouble = error
        self._conveyor.call(partial(self._end_reading, trouble))

    def _read_clips(self, ledger: Ledger, step: Step) -> None:
        clips = 0
        # Only sidecars tell how many clips a member is, without reading it.
        finished = FinishedMembers(ledger.done) if self._spec.segments and self._spec.channel_rule != SPLIT else None
        self._reader = TarReader(
            self._tar,
            self._spec.extensions,
            skip_clips=len(ledger.done),
            sniff=self._spec.sniff,
            allow_missing_end=self.options.allow_missing_end,
            allow_joined=self.options.allow_joined,
            texts=self._spec.text_rules,
            cutting=Cutting.of(self._spec),
            finished=finished,
            on_read=step.sign,
        )
        with self._reader as reader:
            for clip in reader:
                clips += 1
                if clip.index >= len(ledger.done):
                    pending = self._pending(clip, ledger, reader.bytes_consumed, step)
                    with step.waiting():
                        self._pass_on(pending)
                elif ledger.done[clip.index] != clip.name:
                    raise _PartialMismatchError
                else:
                    self._member = 0, reader.bytes_consumed
                if self._dropped:
                    return
        if clips < len(ledger.done):
            raise _PartialMismatchError

    def _pending(self, clip: Clip, ledger: Ledger, tar_bytes: int, step: Step) -> Pending:
        field = self._spec.fields[0]
        count = functools.partial(SequenceCounter, field, self._spec.sample_rate)
        sink = TokenSink(field.width, kept_as=code_type(field), count=count)
        pending = Pending(clip, sink, tar_bytes, self._paths.name)
        with step.waiting(), self._storing():
            pending.kept_line = ledger.reusable_line(clip.index, clip.name)
        if pending.kept_line is None:
            pending.error = known_error(clip, self.options.crash_clips, self.options.timed_out)
        if not pending.finished and clip.member_audio is not None and ledger.journal.may_know(clip.index, clip.name):
            self._resume(pending, clip.member_audio, ledger, step)
        return pending

    def _resume(self, pending: Pending, audio: IO[bytes], ledger: Ledger, step: Step) -> None:
        """Continue a long clip from its journal."""
        clip = LongClip(pending.clip.index, pending.clip.name, member_sum(audio, step.sign))
        leads = clip.index == len(ledger.done)
        with step.waiting(), self._storing():
            fragments = ledger.journal.read(clip, functools.partial(pending.sink.add, may_spill=leads))
        pending.sink.take_unkept()
        if fragments:
            pending.resume(fragments, clip.member)
            pending.told_seconds = self._seconds(pending)
            words = counted(fragments, "fragment")
            log.info("%s: clip %d goes on where it was left: %s are there", self._paths.name, clip.index, words)

    def _pass_on(self, pending: Pending) -> None:
        with self._passing:
            if self._dropped:
                self._conveyor.drop(pending.share)
            else:
                self._turn.clear()
                self._queue.append(pending)
        self._conveyor.offer(pending)
        if self.options.one_at_a_time:
            self._turn.wait()

    def _end_reading(self, trouble: BaseException | None) -> None:
        if isinstance(trouble, TarDamage):
            self._damage = trouble
        else:
            self._trouble = trouble
            self._of_the_tar = trouble if isinstance(trouble, OSError) else None
        self.read_to_end = True

    def advance(self, *, leads: bool = True) -> TarResult | None:
        """Write the lines of finished clips; end the attempt after the last. `leads`: no other tar's lines come first."""
        with self._settling():
            self._write_finished(leads=leads)
            if self._trouble is not None:
                trouble, self._trouble = self._trouble, None
                if isinstance(trouble, TarChangedError):
                    self._start_over()
                    raise WrittenMeanwhileError(str(trouble))
                if not isinstance(trouble, _PartialMismatchError):
                    raise trouble
                self._begin_anew()
            elif self.read_to_end and not self._queue:
                return self._finish()
        return None

    def _write_finished(self, *, leads: bool) -> None:
        while self._queue:
            pending = self._queue[0]
            if not pending.finished:
                if leads and not pending.share.due:
                    self._conveyor.lead(pending.share)
                self._keep(pending)
                return
            if pending.trouble is not None:
                if isinstance(pending.trouble, JournalMismatchError):
                    self._held().journal.forget()
                raise pending.trouble
            self._queue.popleft()
            with pending.sink, self._conveyor.activities.doing("write", about=str(self._paths.partial)), self._storing():
                record = write_line(self._held(), pending, str(self._tar), self._spec)
            self._let_go(pending)
            if self.options.one_at_a_time:
                self._conveyor.call(self._turn.set)  # after a look at whether to stop
            self._tell_encoded(pending, 0.0 if isinstance(record, ErrorRecord) else record.num_samples / record.sample_rate)
            self._on_progress(record, pending.tar_bytes)

    def _keep(self, pending: Pending, *, now: bool = False) -> None:
        """Put the codes of a long clip so far into its journal, if it is time or `now`."""
        if pending.member is None:
            return
        clip, journal = LongClip(pending.clip.index, pending.clip.name, pending.member), self._held().journal
        if not (journal.is_time(clip, pending.sink.unkept_bytes) or now) or pending.taken == pending.kept:
            return
        with self._conveyor.activities.doing("write", about=str(journal.path)), self._storing():
            added = journal.add(clip, pending.kept, pending.taken, pending.sink.take_unkept())
        if added:
            pending.kept = pending.taken
            self._tell_encoded(pending, self._seconds(pending))
            self._on_kept(Kept(clip.index, pending.resumed_at, pending.kept))

    def _seconds(self, pending: Pending) -> float:
        """Seconds of audio whose codes are there."""
        return pending.sink.frames * self._spec.hop_length / self._spec.sample_rate

    def _tell_encoded(self, pending: Pending, seconds: float) -> None:
        """Report audio that became tokens. The decoder's position says which share of its member that is."""
        if pending.tar_bytes != self._member[1]:
            self._member = self._member[1], pending.tar_bytes
        before, after = self._member
        share = pending.read_share if pending.clip.part is not None or not pending.finished else 1.0
        self._on_encoded(max(0.0, seconds - pending.told_seconds), before + int(share * (after - before)))
        pending.told_seconds = seconds

    def _let_go(self, pending: Pending) -> None:
        self._conveyor.drop(pending.share)
        pending.sink.close()

    def _begin_anew(self) -> None:
        """Begin again without the lines found, which are another tar's. Once only."""
        if self._begun_anew:
            self._refuse_if_written_to()
            raise InfrastructureError(f"{self._tar}: its clips change from one reading to the next")
        self._begun_anew = True
        self._member = 0, 0
        self._drop_rest()
        self._start_over()
        self._dropped = self.read_to_end = False
        self._start(retry_errors=False)

    def _finish(self) -> TarResult:
        self._drop_rest()
        with self._conveyor.activities.doing("read", tar=self._paths.name, about=str(self._tar)):
            self._refuse_if_written_to()
        with self._conveyor.activities.doing("write", about=str(self._paths.committed)), self._storing():
            return self._end()

    def _end(self) -> TarResult:
        findings = findings_of(self._reader, self._damage)
        if self._damage is not None:
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
        with self._storing():
            self._held().start_over()
        self._ledger = None

    def leave(self) -> TarResult:
        """End the attempt here: the partial stays, resumable at the next clip, or within one that is long."""
        with self._settling():
            if self._queue and not self._queue[0].finished:
                self._keep(self._queue[0], now=True)
            self._drop_rest()
            with self._storing():
                return TarResult("yielded", self._held().release())

    def fail(self, trouble: BaseException) -> None:
        """End the attempt because of trouble elsewhere, which is raised with this tar's name."""
        with self._settling():
            raise trouble

    def close(self) -> None:
        """End the attempt while another exception propagates, keeping what can be kept."""
        self._drop_rest()
        if self._ledger is not None:
            _leave(self._ledger)

    def _drop_rest(self) -> None:
        """End the reading thread, and drop the clips without a line."""
        with self._passing:
            self._dropped = True
        self._turn.set()
        while self._queue:
            self._let_go(self._queue.popleft())
        if self._reading is not None and self._reading.is_alive():
            self._reading.join(timeout=READER_SECONDS)
        self._reading = None

    def _held(self) -> Ledger:
        assert self._ledger is not None, "an attempt begins with `start`"
        return self._ledger

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """An OSError within is about the output, and not about the tar."""
        try:
            yield
        except OSError as error:
            self._of_the_output = error
            raise

    @contextlib.contextmanager
    def _settling(self) -> Iterator[None]:
        """End the attempt properly before an exception leaves the block."""
        try:
            yield
        except BaseException as error:
            self._drop_rest()
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
        if isinstance(error, MemoryError):
            raise InfrastructureError(f"{self._tar}: out of memory; the partial stays good") from error
        if isinstance(error, OSError) and error is self._of_the_output:
            file = public_name(error.filename or self._paths.partial)
            words = f"{self._paths.name}: {file}: {error.strerror or error}; the partial stays good"
            raise output_error(words, error) from error
        if isinstance(error, OSError) and (error is not self._of_the_tar or is_disk_trouble(error)):
            raise InfrastructureError(f"{self._tar}: {error}; the partial stays good") from error


def _leave(ledger: Ledger) -> None:
    """Keep what can be kept after an exception."""
    try:
        ledger.release()
    except (OSError, Tar2TokensError):
        ledger.abandon()
