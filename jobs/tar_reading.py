"""The thread that reads the clips of one tar, and the queue of those that wait for their line.

It begins after the clips that have a line in the partial, and offers each clip to the conveyor in the tar's order.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from typing import IO

from audio_tokenizers.shared.wording import counted
from jobs.activities import Step
from jobs.attempt_errors import AttemptErrors
from jobs.channels import SPLIT
from jobs.clip_group import Clip
from jobs.clip_journal import LongClip, code_type, member_sum
from jobs.clip_lines import known_error
from jobs.conveyor import Conveyor
from jobs.ledger import Ledger
from jobs.parts import Cutting, FinishedMembers
from jobs.pending import Pending
from jobs.sequence_counter import SequenceCounter
from jobs.spec import TokenizeSpec
from jobs.subset import Subset
from jobs.tar_format import TarDamage
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource
from jobs.tar_task import TarOptions
from jobs.token_sink import TokenSink

__all__ = ["PartialMismatchError", "TarReading", "encoded_seconds"]

READER_SECONDS = 5.0
"""How long to wait for a reading thread to end. One that hangs in a dead file system is left behind."""

log = logging.getLogger("tar2tokens")


class PartialMismatchError(Exception):
    """The partial's lines do not name this tar's clips."""


class TarReading:
    """One reading of one tar, in a thread of its own from `start` on.

    Except for `queue`, which the thread appends to, all attributes change only in the thread that calls the conveyor's
    `step`.
    """

    def __init__(
        self,
        tar: TarSource,
        name: str,
        spec: TokenizeSpec,
        conveyor: Conveyor,
        options: TarOptions,
        ledger: Ledger,
        errors: AttemptErrors,
    ) -> None:
        """`name`: the tar's output name. `ledger` says which clips have a line; `errors` learns of errors of the tar."""
        self.queue: deque[Pending] = deque()
        """Clips without a line, in the tar's order."""
        self.ended = False
        """The thread has ended."""
        self.trouble: BaseException | None = None
        """Why it ended before the tar did, other than by damage."""
        self.damage: TarDamage | None = None
        self.reader: TarReader | None = None
        self._tar = tar
        self._name = name
        self._spec = spec
        self._conveyor = conveyor
        self._options = options
        self._ledger = ledger
        self._errors = errors
        self._member = (0, 0)
        """Bytes of the tar up to the member whose clips are being written, and up to that member's end."""
        self._turn = threading.Event()
        """Set when the next clip may be read, in `one_at_a_time`."""
        self._passing = threading.Lock()
        self._dropped = False
        """No more clips are passed on. Guarded by `_passing`."""
        self._thread = threading.Thread(target=self._read, name=f"reader of {tar}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def next_turn(self) -> None:
        """Let the thread read the next clip, in `one_at_a_time`."""
        self._turn.set()

    def stop(self) -> None:
        """End the thread, and drop the clips without a line. May be called again."""
        with self._passing:
            self._dropped = True
        self._turn.set()
        while self.queue:
            self.let_go(self.queue.popleft())
        if self._thread.is_alive():
            self._thread.join(timeout=READER_SECONDS)

    def let_go(self, pending: Pending) -> None:
        """Free the memory of a clip that needs it no more."""
        self._conveyor.drop(pending.share)
        pending.sink.close()

    def bytes_used(self, pending: Pending) -> int:
        """Bytes of the tar used so far. The decoder's position says which share of the clip's member that is."""
        if pending.tar_bytes != self._member[1]:
            self._member = self._member[1], pending.tar_bytes
        before, after = self._member
        share = pending.read_share if pending.clip.part is not None or not pending.finished else 1.0
        return before + int(share * (after - before))

    def _read(self) -> None:
        """The thread."""
        trouble: BaseException | None = None
        try:
            with self._conveyor.activities.doing("read", tar=self._name, about=str(self._tar)) as step:
                self._read_clips(step)
        except BaseException as error:  # noqa: BLE001 (raised by the thread that writes lines)
            trouble = error
        self._conveyor.call(functools.partial(self._end, trouble))

    def _end(self, trouble: BaseException | None) -> None:
        if isinstance(trouble, TarDamage):
            self.damage = trouble
        else:
            self.trouble = trouble
            self._errors.note_tar_error(trouble)
        self.ended = True

    def _read_clips(self, step: Step) -> None:
        clips, done = 0, self._ledger.done
        # Only sidecars tell how many clips a member is, without reading it.
        finished = FinishedMembers(done) if self._spec.segments and self._spec.channel_rule != SPLIT else None
        self.reader = TarReader(
            self._tar,
            self._spec.extensions,
            skip_clips=len(done),
            sniff=self._spec.sniff,
            allow_missing_end=self._options.allow_missing_end,
            allow_joined=self._options.allow_joined,
            texts=self._spec.text_rules,
            cutting=Cutting.of(self._spec),
            finished=finished,
            subset=Subset.of(self._spec.subset_ratio, self._tar),
            on_read=step.sign,
        )
        with self.reader as reader:
            for clip in reader:
                clips += 1
                if clip.index >= len(done):
                    pending = self._pending(clip, reader.bytes_consumed, step)
                    with step.waiting():
                        self._pass_on(pending)
                elif done[clip.index] != clip.name:
                    raise PartialMismatchError
                else:
                    self._member = 0, reader.bytes_consumed
                if self._dropped:
                    return
        if clips < len(done):
            raise PartialMismatchError

    def _pending(self, clip: Clip, tar_bytes: int, step: Step) -> Pending:
        field = self._spec.fields[0]
        count = functools.partial(SequenceCounter, field, self._spec.sample_rate)
        sink = TokenSink(field.width, kept_as=code_type(field), count=count)
        pending = Pending(clip, sink, tar_bytes, self._name)
        with step.waiting(), self._errors.storing():
            pending.kept_line = self._ledger.reusable_line(clip.index, clip.name)
        if pending.kept_line is None:
            pending.error = known_error(clip, self._options.crash_clips, self._options.timed_out)
        journal = self._ledger.journal
        if not pending.finished and clip.member_audio is not None and journal.may_know(clip.index, clip.name):
            self._resume(pending, clip.member_audio, step)
        return pending

    def _resume(self, pending: Pending, audio: IO[bytes], step: Step) -> None:
        """Continue a long clip from its journal."""
        clip = LongClip(pending.clip.index, pending.clip.name, member_sum(audio, step.sign))
        leads = clip.index == len(self._ledger.done)
        with step.waiting(), self._errors.storing():
            fragments = self._ledger.journal.read(clip, functools.partial(pending.sink.add, may_spill=leads))
        pending.sink.take_unkept()
        if fragments:
            pending.resume(fragments, clip.member)
            pending.told_seconds = encoded_seconds(pending, self._spec)
            found = counted(fragments, "fragment")
            log.info("%s: clip %d continues after %s from its journal", self._name, clip.index, found)

    def _pass_on(self, pending: Pending) -> None:
        with self._passing:
            if self._dropped:
                self._conveyor.drop(pending.share)
            else:
                self._turn.clear()
                self.queue.append(pending)
        self._conveyor.offer(pending)
        if self._options.one_at_a_time:
            self._turn.wait()


def encoded_seconds(pending: Pending, spec: TokenizeSpec) -> float:
    """Seconds of audio whose codes the clip has."""
    return pending.sink.frames * spec.hop_length / spec.sample_rate
