"""The threads between reading tars and writing lines: some decode, one drives the device.

Clips go in by `offer`, from whichever thread reads a tar. What became of them is told to the thread that writes lines, as
calls that it makes in `step`: so ledgers, sinks and counts belong to that thread alone.

    readers --offer--> decoders --Feed--> device --calls--> step
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from functools import partial

from audio_tokenizers.base import Backend, Batching
from audio_tokenizers.errors import ClipError
from jobs.activities import Activities
from jobs.batcher import Batch, Batcher
from jobs.clip_decoder import ClipDecoder
from jobs.encoder import Encoder, Result
from jobs.feed import Feed, Share
from jobs.lane_grid import LaneGrid
from jobs.pending import Pending, Portion, told
from jobs.progress import DeviceSeconds
from jobs.spec import TokenizeSpec

__all__ = ["DEFAULT_BUFFER_BYTES", "Conveyor", "Feeding"]

BATCH_SECONDS = 600
"""Audio in a batch, at most, but for a clip that is longer by itself; lanes have their own bound."""
BATCHES_AHEAD, ITEMS_AHEAD = 4, 16
"""Where an idle device takes what there is, so many batches may wait for it, or items: more would only take memory."""
LANE_BATCHES_IN_FLIGHT = 2
"""So that the device has the next call at hand when it ends one. Other backends compute within `begin`."""
CLIPS_READ_AHEAD = 12
"""Beside two per decode thread; their bytes count too."""
CALLS_PER_STEP = 64
"""Then lines are written and a stop is seen, however fast the calls come."""
DEFAULT_BUFFER_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Feeding:
    """How a worker keeps its device fed; none of it decides the value of a token."""

    decode_threads: int = 1
    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    """Clips with their texts and decoded audio, and what became of it until it is written."""


class Conveyor:
    """Decode threads and a device thread, for one backend. Close it."""

    def __init__(
        self, spec: TokenizeSpec, backend: Backend, feeding: Feeding = Feeding(), activities: Activities | None = None
    ) -> None:
        info = backend.info
        self._spec = spec
        self.activities = activities or Activities()
        """What these threads, and those that read, are at."""
        self._encoder = Encoder(backend, self.activities.waiting)
        lanes = info.batching is Batching.LANES
        self._feed: Feed[Portion] = Feed(
            Batcher(
                info.batching,
                info.max_batch,
                max_samples=BATCH_SECONDS * spec.sample_rate,
                samples=lambda portion: portion.samples,
                order=lambda portion: portion.order,
                grid=_grid(spec, info.max_batch) if lanes else None,
            ),
            most_bytes=feeding.buffer_bytes,
            most_items=None if lanes else max(ITEMS_AHEAD, BATCHES_AHEAD * info.max_batch) + feeding.decode_threads,
            most_undecoded=2 * feeding.decode_threads + CLIPS_READ_AHEAD,
            max_batch=info.max_batch,
        )
        self._in_flight = LANE_BATCHES_IN_FLIGHT if lanes else 1
        self._decoder = ClipDecoder(spec, info, self._encoder, self._feed, self.activities)
        self._clips: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._turns = itertools.count()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._device = threading.Thread(target=self._drive_device, name="device", daemon=True)
        self._decoders = [
            threading.Thread(target=self._decode, name=f"decoder-{n}", daemon=True) for n in range(feeding.decode_threads)
        ]
        for thread in (self._device, *self._decoders):
            thread.start()

    @property
    def device_time(self) -> DeviceSeconds:
        """What the device's seconds were spent on."""
        return self._feed.time

    def offer(self, pending: Pending) -> None:
        """Have a clip decoded and encoded; waits while enough others do, or until it is dropped.

        One that is finished already passes through: it takes memory too. The conveyor closes its audio.
        """
        pending.turn = next(self._turns)
        if self._feed.announce(pending.share, pending.size, pending.undecoded_size):
            self._clips.put(pending)
        else:
            pending.clip.close()

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread that calls `step` call this, after all that was asked for before."""
        self._calls.put(function)

    def fail(self, error: BaseException) -> None:
        """Have `step` raise this, after all that was asked for before."""
        self.call(partial(_raise, error))

    def step(self, seconds: float) -> None:
        """Make the calls that have come, waiting for the first one for `seconds` at most. Raises what they raise."""
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)()
            for _ in range(min(self._calls.qsize(), CALLS_PER_STEP)):
                self._calls.get_nowait()()

    def finish_calls(self) -> None:
        """After `halt`: make all that have come."""
        with suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def lead(self, share: Share) -> None:
        """The clip's line is the next one to be written."""
        self._feed.lead(share)

    def drop(self, share: Share) -> None:
        """The clip's line is written, or nobody wants it any more."""
        self._feed.drop(share)

    def expect(self, *, more: bool) -> None:
        """Whether clips are to come soon, for which calls that are not full may wait."""
        self._feed.expect(more=more)

    @property
    def idle(self) -> bool:
        """Whether no thread has a clip in hand, be it one that nobody wants any more."""
        return self._feed.idle()

    def halt(self) -> None:
        """Let the device finish what it has in hand, and drop what is only decoded. The calls of that remain to be made."""
        self._feed.close()
        self._device.join()

    def close(self) -> None:
        """End the threads. Clips that are offered later are dropped."""
        self.halt()
        for _ in self._decoders:
            self._clips.put(None)
        for thread in self._decoders:
            thread.join()

    def _decode(self) -> None:
        while (pending := self._clips.get()) is not None:
            undecoded = pending.undecoded_size
            try:
                with closing(pending.clip):
                    if self._feed.wants(pending.share):
                        self._decode_one(pending)
            except BaseException as error:  # noqa: BLE001 (it is raised again where the clip's line would be written)
                self.call(partial(_note, pending, told(error) if isinstance(error, ClipError) else error))
            self._feed.decoded(pending.share, undecoded)

    def _decode_one(self, pending: Pending) -> None:
        if pending.finished:
            self.call(lambda: None)  # whoever writes its line wakes up
        else:
            self._decoder.hand_over(pending)

    def _drive_device(self) -> None:
        flying: deque[tuple[Batch[Portion], Callable[[], list[Result | ClipError]]]] = deque()
        try:
            while (batch := self._feed.take(wait=not flying)) is not None or flying:
                started = time.monotonic()
                with self._calling([*(flown for flown, _ in flying), *([batch] if batch is not None else [])]):
                    if batch is not None:
                        items = [portion.item for portion in batch.items]
                        flying.append((batch, self._encoder.begin(items, batch.shape)))
                    done = flying.popleft() if batch is None or len(flying) >= self._in_flight else None
                    outcomes = done[1]() if done is not None else []
                # Before the call, by which the batch's tar may end.
                self._feed.time += DeviceSeconds(busy=time.monotonic() - started)
                if done is not None:
                    self.call(partial(self._receive, done[0], outcomes))
        except BaseException as error:  # noqa: BLE001 (it is raised again in `step`)
            self.fail(error)
            self._feed.close()

    def _calling(self, batches: Sequence[Batch[Portion]]) -> AbstractContextManager[object]:
        """The device is at these batches."""
        clips = {id(portion.pending): portion.pending for batch in batches for portion in batch.items}
        first = next(iter(clips.values()))
        one_tar = all(pending.tar == first.tar for pending in clips.values())
        return self.activities.doing(
            "encode",
            tar=first.tar if one_tar else "",
            clip=first.clip.index,
            about=f" and {len(clips) - 1} more" if len(clips) > 1 else "",
            audio_seconds=sum(map(_samples, batches)) / self._spec.sample_rate,
        )

    def _receive(self, batch: Batch[Portion], outcomes: Sequence[Result | ClipError]) -> None:
        """Until it is called, batch and outcomes are in memory: the audio counts for both."""
        self._feed.encoded(batch)
        for portion, outcome in zip(batch.items, outcomes, strict=True):
            if portion.share.dropped:
                continue
            grown = portion.pending.encoded(portion, outcome, self._spec.fields, self._spec.backend)
            self._feed.hold(portion.share, grown)


def _grid(spec: TokenizeSpec, lanes: int) -> LaneGrid:
    return LaneGrid(
        lanes=lanes,
        sample_rate=spec.sample_rate,
        hop_length=spec.hop_length,
        fragment_frames=spec.max_tokens_per_fragment,
    )


def _samples(batch: Batch[Portion]) -> int:
    """What a call computes: empty lanes and padding too."""
    shape = batch.shape
    return sum(portion.samples for portion in batch.items) if shape is None else shape.lanes * shape.samples


def _note(pending: Pending, error: BaseException) -> None:
    if isinstance(error, ClipError):
        pending.refuse(error)
    else:
        pending.trouble = error


def _raise(error: BaseException) -> None:
    raise error
