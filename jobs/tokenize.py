"""One tar, from its clips to its committed file: decode -> fragments or whole clips -> batches -> records in tar order."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from audio_tokenizers.base import Backend, Codes, Utterance, Values, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError, Tar2TokensError
from jobs.audio import FragmentCutter, decode, resample
from jobs.batcher import Batcher
from jobs.encoder import Encoder
from jobs.fileops import is_disk_trouble
from jobs.ledger import Ledger
from jobs.outputs import InputIdentity, TarPaths
from jobs.records import ErrorRecord, Manifest, Record, TokenRecord, decode_record, encode_record, line_parts
from jobs.spec import DECODERS, TokenizeSpec
from jobs.tar_format import TarDamage
from jobs.tar_reader import Clip, TarReader
from jobs.token_sink import TokenSink
from jobs.values import array_fault, to_json

__all__ = ["Outcome", "TarResult", "tokenize_tar"]

Outcome = Literal["committed", "yielded", "damaged"]
OnProgress = Callable[[Record, int], None]
"""Called after each line with its record and the bytes of the tar used so far."""

BATCH_SECONDS = 600
"""Audio that waits for a batch, at most, but for a clip that is longer by itself."""
CRASH_WORDS = "workers died with this clip in hand; their logs say how, and --retry-errors tries it again"
"""The same whatever the signals were: a committed file must not depend on luck."""


@dataclass(frozen=True, slots=True)
class TarResult:
    """How an attempt at a tar ended, other than by an exception."""

    outcome: Outcome
    manifest: Manifest


class _PartialMismatchError(Exception):
    """The partial's lines do not name this tar's clips."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A clip on its way to a line."""

    clip: Clip
    sink: TokenSink
    """What its fragments became."""
    values: Values | None = None
    """What the whole clip became, of a ClipBackend."""
    samples: int = 0
    waiting: int = 0
    """Fragments, or the clip itself, that the batcher still holds."""
    early: dict[int, Codes] = field(default_factory=dict)
    """Codes that came before those of an earlier fragment."""
    next_fragment: int = 0
    handed_over: bool = False
    """The clip has been handed to the batcher, to its end."""
    error: ClipError | None = None
    kept_line: bytes | None = None
    """The line from before --retry-errors."""

    @property
    def finished(self) -> bool:
        return self.kept_line is not None or self.error is not None or (self.handed_over and self.waiting == 0)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A fragment, or a whole clip, that the batcher holds."""

    pending: _Pending
    fragment: int = 0
    drop_head: int = 0
    drop_tail: int = 0


Item = Waveform | Utterance
Result = Codes | Values


def tokenize_tar(
    tar: Path,
    paths: TarPaths,
    spec: TokenizeSpec,
    backend: Backend,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda _record, _bytes: None,
    retry_errors: bool = False,
    allow_missing_end: bool = False,
    crash_clips: Collection[int] = (),
    one_at_a_time: bool = False,
    take: Callable[..., Ledger] = Ledger.take,
) -> TarResult:
    """Tokenize one tar from where its partial ends, and commit it if the tar ends properly.

    The clips numbered `crash_clips` (from 0) have killed workers: each becomes a record of kind `crash`, unread. With
    `one_at_a_time` no clip waits for others to fill a batch: should this process die, its lines say which clip it was.

    Raises ClaimLostError, UsageError (another recipe), InfrastructureError (the machine is in trouble; the partial stays
    good) and OSError where the tar cannot be opened.
    """
    for first_try in (True, False):
        identity = InputIdentity.of(tar)
        ledger = take(paths, identity, spec.fingerprint, spec.fields, retry_errors=retry_errors and first_try)
        try:
            return _attempt(
                tar,
                ledger,
                spec,
                backend,
                stop,
                on_progress,
                crash_clips,
                one_at_a_time=one_at_a_time,
                allow_missing_end=allow_missing_end,
            )
        except _PartialMismatchError:
            ledger.start_over()
        except Tar2TokensError:
            ledger.abandon()
            raise
        except MemoryError as error:
            _leave(ledger)
            raise InfrastructureError(f"{tar}: out of memory; the partial stays good") from error
        except OSError as error:
            _leave(ledger)
            if is_disk_trouble(error):
                raise InfrastructureError(f"{tar}: {error}; the partial stays good") from error
            raise
        except BaseException:
            _leave(ledger)
            raise
    raise InfrastructureError(f"{tar}: its clips change from one reading to the next")


def _leave(ledger: Ledger) -> None:
    """Keep what can be kept when the attempt ends in an exception."""
    try:
        ledger.release()
    except (OSError, Tar2TokensError):
        ledger.abandon()


def _attempt(
    tar: Path,
    ledger: Ledger,
    spec: TokenizeSpec,
    backend: Backend,
    stop: Callable[[], bool],
    on_progress: OnProgress,
    crash_clips: Collection[int],
    *,
    one_at_a_time: bool,
    allow_missing_end: bool,
) -> TarResult:
    damage: TarDamage | None = None
    try:
        reader = TarReader(tar, spec.extensions, skip_clips=len(ledger.done), allow_missing_end=allow_missing_end)
    except TarDamage as broken_from_the_start:
        return TarResult("damaged", ledger.release(**_verdict(broken_from_the_start)))
    pipeline = _Pipeline(
        str(tar), ledger, spec, backend, crash_clips, lambda record: on_progress(record, reader.bytes_consumed)
    )
    with reader, contextlib.closing(pipeline):
        clips = 0
        try:
            for clip in reader:
                clips += 1
                if clip.index < len(ledger.done):
                    if ledger.done[clip.index] != clip.name:
                        raise _PartialMismatchError
                else:
                    pipeline.feed(clip)
                    if one_at_a_time:
                        pipeline.flush()
                if stop():
                    pipeline.flush()
                    return TarResult("yielded", ledger.release())
        except TarDamage as found:
            damage = found
        if clips < len(ledger.done) and damage is None:
            raise _PartialMismatchError
        pipeline.flush()
        findings = {
            "ignored_members": dict(sorted(reader.ignored.items())),
            "orphan_sidecars": reader.orphan_sidecars,
            "sidecar_faults": reader.sidecar_faults,
            "versions": _versions(),
        }
    if damage is not None:
        return TarResult("damaged", ledger.release(**_verdict(damage), **findings))
    return TarResult("committed", ledger.commit(**findings))


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of what took part, for the manifest; those that decide tokens are in the recipe too."""
    found = {"python": platform.python_version()}
    for package in ("tar2tokens", "numpy", *DECODERS):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # tar2tokens itself, in a checkout that nobody has installed
            found[package] = "not installed"
    return found


def _verdict(damage: TarDamage) -> dict[str, object]:
    return {"verdict": damage.verdict, "verdict_detail": str(damage), "verdict_offset": damage.offset}


class _Pipeline:
    """Clips in, lines out, in the order of the clips whatever the order of the batches."""

    def __init__(
        self,
        tar_file: str,
        ledger: Ledger,
        spec: TokenizeSpec,
        backend: Backend,
        crash_clips: Collection[int],
        on_record: Callable[[Record], None],
    ) -> None:
        self._tar_file = tar_file
        self._ledger = ledger
        self._spec = spec
        self._info = backend.info
        self._crash_clips = crash_clips
        self._on_record = on_record
        self._queue: deque[_Pending] = deque()
        self._encoder = Encoder(backend)
        self._cutter: FragmentCutter | None = None
        if spec.max_tokens_per_fragment is not None:
            self._cutter = FragmentCutter(
                spec.max_tokens_per_fragment, spec.num_tokens_overlap, spec.hop_length, spec.min_samples
            )
        self._batcher: Batcher[_Ticket, Item, Result] = Batcher(
            self._encoder.encode,
            self._info.batching,
            self._info.max_batch,
            max_samples=BATCH_SECONDS * spec.sample_rate,
            samples=lambda item: len(item.wave if isinstance(item, Utterance) else item),
        )

    def feed(self, clip: Clip) -> None:
        """Take the next clip, and write what is finished."""
        pending = _Pending(clip, TokenSink(self._spec.fields[0].width))
        self._queue.append(pending)
        pending.kept_line = self._ledger.reusable_line(clip.index, clip.name)
        try:
            if clip.index in self._crash_clips:
                raise ClipError("crash", CRASH_WORDS)
            if pending.kept_line is None:
                self._hand_over(pending)
        except ClipError as error:
            pending.error = error
        finally:
            if clip.audio is not None:
                clip.audio.close()
        self._write_finished()

    def close(self) -> None:
        """Drop the clips that have no line yet."""
        for pending in self._queue:
            pending.sink.close()

    def flush(self) -> None:
        """Encode and write all that waits."""
        self._receive(self._batcher.flush())
        self._write_finished()

    def _hand_over(self, pending: _Pending) -> None:
        """Decode the clip and give it to the batcher."""
        if pending.clip.audio is None:
            raise ClipError("decode", "stored as a sparse member, which tar readers restore differently: repack it")
        blocks = decode(pending.clip.audio, mono=self._info.mono, max_seconds=self._spec.max_duration)
        if self._cutter is None:
            self._hand_over_whole(pending, *_join(blocks))
            return
        for number, fragment in enumerate(self._cutter.cut(_counted(resample(blocks, self._spec.sample_rate), pending))):
            self._check_length(len(fragment.wave))
            pending.waiting += 1
            ticket = _Ticket(pending, number, fragment.drop_head, fragment.drop_tail)
            self._receive(self._batcher.add(ticket, fragment.wave))
            if pending.error is not None:
                return
        pending.handed_over = True

    def _hand_over_whole(self, pending: _Pending, wave: Waveform, sample_rate: int) -> None:
        heard = self._encoder.resample(wave, sample_rate)
        pending.samples = len(heard)
        self._check_length(len(heard))
        text = pending.clip.annotations.text
        if self._info.needs_text and not (text and text.strip()):
            raise ClipError("no_text", "no transcript: expected a .json with `text`, a .txt or a .lab of the same name")
        pending.waiting += 1
        pending.handed_over = True
        self._receive(self._batcher.add(_Ticket(pending), Utterance(heard, text)))

    def _check_length(self, samples: int) -> None:
        if samples < self._spec.min_samples:
            message = f"{samples} samples at {self._spec.sample_rate} Hz, expected at least {self._spec.min_samples}"
            raise ClipError("too_short", message)

    def _receive(self, results: Sequence[tuple[_Ticket, Result | ClipError]]) -> None:
        for ticket, result in results:
            pending = ticket.pending
            pending.waiting -= 1
            if pending.error is not None:
                continue
            if isinstance(result, ClipError):
                pending.error = result
                continue
            values = {"tokens": result} if isinstance(result, np.ndarray) else result
            fault = array_fault(self._spec.fields, values)
            if fault is not None:
                raise InfrastructureError(f"backend {self._spec.backend} gave {fault}; this is a bug in the backend")
            if not isinstance(result, np.ndarray):
                pending.values = result
                continue
            pending.early[ticket.fragment] = result[:, ticket.drop_head : result.shape[1] - ticket.drop_tail]
            while (ready := pending.early.pop(pending.next_fragment, None)) is not None:
                pending.sink.add(ready)
                pending.next_fragment += 1

    def _write_finished(self) -> None:
        while self._queue and self._queue[0].finished:
            pending = self._queue.popleft()
            with pending.sink:
                self._on_record(self._write(pending))

    def _write(self, pending: _Pending) -> Record:
        record: Record
        if pending.kept_line is not None:
            record = decode_record(pending.kept_line)
            self._ledger.append(record, (pending.kept_line,))
            return record
        name = pending.clip.name
        if pending.error is not None:
            record = ErrorRecord(
                tar_file=self._tar_file, audio_file=name, error=str(pending.error), error_kind=pending.error.kind
            )
            self._ledger.append(record, (encode_record(record),))
            return record
        said = pending.clip.annotations
        record = TokenRecord(
            tar_file=self._tar_file,
            audio_file=name,
            num_samples=pending.samples,
            sample_rate=self._spec.sample_rate,
            values={},
            text=said.text,
            language=said.language,
            metadata=said.metadata,
        )
        if pending.values is None:
            shape = b"[%d,%d]" % (self._spec.fields[0].width, pending.sink.frames)
            values = (("tokens", pending.sink.json_parts()), ("token_shape", (shape,)))
            self._ledger.append(record, line_parts(record, values))
            return record
        json, features = to_json(self._spec.fields, pending.values, pending.clip.index)
        self._ledger.append(record, line_parts(record, ((key, (text,)) for key, text in json.items())), features)
        return record


def _join(blocks: Iterator[tuple[Waveform, int]]) -> tuple[Waveform, int]:
    """A whole clip, and its rate."""
    waves, rates = zip(*blocks, strict=True)
    return waves[0] if len(waves) == 1 else np.concatenate(waves), rates[0]


def _counted(blocks: Iterator[Waveform], pending: _Pending) -> Iterator[Waveform]:
    for block in blocks:
        pending.samples += len(block)
        yield block
