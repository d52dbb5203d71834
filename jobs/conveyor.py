"""The threads between reading tars and writing lines: some decode, one drives the device.

Threads that read tars call `offer`. Results come back as calls that the writing thread makes in `step`, so ledgers, sinks
and counts belong to that thread alone.

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
"""Audio in a batch, at most, unless a single clip is longer; lanes have their own bound."""
BATCHES_AHEAD, ITEMS_AHEAD = 4, 16
"""How many batches or items may wait for a device that takes whatever is there when idle; more would only take memory."""
LANE_BATCHES_IN_FLIGHT = 2
"""The device finds its next call ready when it finishes one. Other backends compute within `begin`."""
CLIPS_READ_AHEAD = 12
"""In addition to two per decode thread. Their bytes count too."""
CALLS_PER_STEP = 64
"""After so many calls lines are written and the stop flag is checked, however fast calls come."""
DEFAULT_BUFFER_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Feeding:
    """How a worker keeps its device fed. None of it affects tokens."""

    decode_threads: int = 1
    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    """For clips with their texts, decoded audio, and codes until they are written."""


class Conveyor:
    """Decode threads and a device thread for one backend. Must be closed."""

    def __init__(
        self, spec: TokenizeSpec, backend: Backend, feeding: Feeding = Feeding(), activities: Activities | None = None
    ) -> None:
        info = backend.info
        self._spec = spec
        self.activities = activities or Activities()
        """What these threads and the reading threads are doing."""
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
        """How the device has spent its time."""
        return self._feed.time

    def offer(self, pending: Pending) -> None:
        """Decode and encode a clip. Waits while enough others are queued, or until it is dropped.

        A finished clip passes through too, because it takes memory. The conveyor closes the clip's audio.
        """
        pending.turn = next(self._turns)
        if self._feed.announce(pending.share, pending.size, pending.undecoded_size):
            self._clips.put(pending)
        else:
            pending.clip.close()

    def call(self, function: Callable[[], None]) -> None:
        """Queue a call for the thread that calls `step`."""
        self._calls.put(function)

    def fail(self, error: BaseException) -> None:
        """Queue an exception for `step` to raise."""
        self.call(partial(_raise, error))

    def step(self, seconds: float) -> None:
        """Make the queued calls, waiting up to `seconds` for the first one. Raises what they raise."""
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)()
            for _ in range(min(self._calls.qsize(), CALLS_PER_STEP)):
                self._calls.get_nowait()()

    def finish_calls(self) -> None:
        """After `halt`: make all queued calls."""
        with suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def lead(self, share: Share) -> None:
        """Mark the clip as the one whose line is written next."""
        self._feed.lead(share)

    def drop(self, share: Share) -> None:
        """Release the clip: its line is written, or it is no longer wanted."""
        self._feed.drop(share)

    def expect(self, *, more: bool) -> None:
        """Say whether more clips come soon, so that calls that are not full may wait for them."""
        self._feed.expect(more=more)

    @property
    def idle(self) -> bool:
        """Whether no thread has a clip in hand, wanted or not."""
        return self._feed.idle()

    def halt(self) -> None:
        """Let the device finish what it has, and drop what is only decoded. The resulting calls stay queued."""
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
            self.call(lambda: None)  # wakes the writing thread
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
