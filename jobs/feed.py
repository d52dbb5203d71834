"""Decoded audio on its way to the device, bounded in bytes: decoders put items in, the device takes batches out.

Everything that a clip holds in memory counts: its texts, its file until it is decoded, audio that waits, and its codes until
the line is written. A thread that would exceed the bound waits, except for the clip whose line is due next: all others wait
for that clip, so it must get through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from jobs.batcher import Batch, Batcher
from jobs.progress import DeviceSeconds

__all__ = ["Feed", "Share"]

GATHER_SECONDS = 20.0
"""How long an item waits for others to share its call. A kill costs at most the lines of so long; at a tar's end the next
tar's clips have so long to fill up the lanes."""


@dataclass(slots=True, eq=False)
class Share:
    """One clip's share of the feed. Only the feed uses its fields."""

    announced: bool = False
    """The decoders have been promised the clip."""
    bytes: int = 0
    items: int = 0
    """Items that were `put` and are not encoded yet."""
    due: bool = False
    """Its line is the next one to be written."""
    dropped: bool = False
    """No longer wanted."""


class Portion(Protocol):
    """An item: audio that is encoded in one piece."""

    @property
    def share(self) -> Share:
        """The share of its clip."""

    @property
    def size(self) -> int:
        """Bytes of its audio."""


Item = TypeVar("Item", bound=Portion)


class Feed(Generic[Item]):
    """The buffer between the decoders and the device. All methods are thread-safe."""

    def __init__(
        self,
        batcher: Batcher[Item],
        *,
        most_bytes: int,
        most_items: int | None,
        most_undecoded: int,
        max_batch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `most_items` wait, and an idle device takes what there is. None: where a call costs the same however full
        it is, calls fill up as far as the memory allows. At most `most_undecoded` clips are in the decoders' hands, with
        half of the memory at most: the rest is for what they make of them.
        """
        self._batcher = batcher
        self._most_bytes = most_bytes
        self._most_items = most_items
        self._most_undecoded = most_undecoded
        self._max_batch = max_batch
        self._clock = clock
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._turn = threading.Condition(self._lock)
        self._held = 0
        self._blocked = 0
        self._in_hand = 0
        self._undecoded = 0
        self._undecoded_bytes = 0
        self._expects_more = True
        self._closed = False
        self.time = DeviceSeconds()
        """How the device has spent its time, up to the last batch. Only the device thread adds to it."""

    def announce(self, share: Share, size: int = 0, undecoded: int = 0) -> bool:
        """Wait until the decoders may have another clip, which holds `size` bytes until it is written, and `undecoded` more
        until it is decoded. False: it was dropped, and they may not.
        """
        with self._lock:
            while not (self._closed or share.dropped):
                if self._undecoded >= self._most_undecoded or not self._may_wait(share, undecoded):
                    self._turn.wait()
                elif share.due or self._held == 0 or self._held + size + undecoded <= self._most_bytes:
                    share.announced = True
                    self._undecoded += 1
                    self._undecoded_bytes += undecoded
                    self._hold(share, size + undecoded)
                    return True
                else:
                    self._wait_for_room()
        return False

    def _may_wait(self, share: Share, undecoded: int) -> bool:
        half = self._undecoded_bytes + undecoded <= self._most_bytes // 2
        return half or share.due or self._undecoded == 0

    def _wait_for_room(self) -> None:
        self._blocked += 1
        self._work.notify()  # calls that are not full go now, else all would wait for each other
        self._room.wait()
        self._blocked -= 1

    def wants(self, share: Share) -> bool:
        """Whether the clip is still wanted."""
        with self._lock:
            return not (self._closed or share.dropped)

    def decoded(self, share: Share, undecoded: int = 0) -> None:
        """The decoders have finished an announced clip and released its file."""
        with self._lock:
            self._undecoded -= 1
            self._undecoded_bytes -= undecoded
            if not share.dropped:
                self._hold(share, -undecoded)
            if self._undecoded <= self._most_undecoded // 2:  # a reader reads several clips each time that it wakes up
                self._turn.notify_all()
            if self._undecoded == 0:
                self._work.notify()
            if undecoded and self._blocked:
                self._room.notify_all()

    def reserve(self, share: Share, size: int) -> bool:
        """Wait until the clip may hold `size` more bytes. False: it was dropped, and nothing is reserved."""
        with self._lock:
            while not (self._closed or share.dropped or self._admits(share, size)):
                self._wait_for_room()
            if self._closed or share.dropped:
                return False
            self._hold(share, size)
        return True

    def _admits(self, share: Share, size: int) -> bool:
        if share.due and share.items < self._max_batch:
            return True
        if self._most_items is not None and self._batcher.waiting >= self._most_items:
            return False
        alone = self._held == share.bytes and share.items == 0
        return alone or self._held + size <= self._most_bytes

    def _hold(self, share: Share, size: int) -> None:
        self._held += size
        share.bytes += size

    def put(self, item: Item) -> None:
        """Add an item whose bytes are reserved."""
        with self._lock:
            if item.share.dropped:
                return
            item.share.items += 1
            self._batcher.add(item, self._clock())
            self._work.notify()

    def take(self, *, wait: bool) -> Batch[Item] | None:
        """The next batch for the device. None: nothing is ready; with `wait`: nothing ever will be."""
        audio = writer = 0.0
        with self._lock:
            while not self._closed:
                now = self._clock()
                batch = self._next(now)
                if batch is not None:
                    self._in_hand += 1
                    self.time += DeviceSeconds(audio=audio, writer=writer)
                    if self._blocked:
                        self._room.notify_all()
                    return batch
                if not wait:
                    return None
                full = self._blocked > 0
                oldest = self._batcher.oldest_since()
                self._work.wait(None if oldest is None else max(0.0, oldest + GATHER_SECONDS - now))
                if full:
                    writer += self._clock() - now
                else:
                    audio += self._clock() - now
        return None

    def _next(self, now: float) -> Batch[Item] | None:
        more = self._expects_more or self._undecoded > 0
        eager = self._most_items is not None or not more or self._blocked > 0
        while (batch := self._batcher.take(now, wait_seconds=0.0 if eager else GATHER_SECONDS)) is not None:
            wanted = [item for item in batch.items if not item.share.dropped]
            if wanted:
                return Batch(wanted, batch.shape)
        return None

    def encoded(self, batch: Batch[Item]) -> None:
        """A batch was encoded and its audio released."""
        with self._lock:
            self._in_hand -= 1
            for item in batch.items:
                item.share.items -= 1
                if not item.share.dropped:
                    self._hold(item.share, -item.size)
            if self._blocked:
                self._room.notify_all()

    def hold(self, share: Share, size: int) -> None:
        """Count `size` more bytes for the clip, or fewer. They are allocated already, so this never waits."""
        with self._lock:
            if not share.dropped:
                self._hold(share, size)
            if size < 0 and self._blocked:
                self._room.notify_all()

    def lead(self, share: Share) -> None:
        """Mark the clip as the one whose line is written next."""
        with self._lock:
            share.due = True
            if not share.announced:
                self._turn.notify_all()
            if self._blocked:
                self._room.notify_all()

    def drop(self, share: Share) -> None:
        """Release what the clip holds; items that the device has already are encoded in vain."""
        with self._lock:
            self._held -= share.bytes
            share.bytes = 0
            share.dropped = True
            if not share.announced:
                self._turn.notify_all()
            if self._blocked:
                self._room.notify_all()

    def expect(self, *, more: bool) -> None:
        """Say whether more clips come soon, so that calls that are not full may wait for them."""
        with self._lock:
            self._expects_more = more
            self._work.notify()

    def idle(self) -> bool:
        """Whether neither the decoders nor the device have anything in hand, or ever will."""
        with self._lock:
            return self._closed or (self._undecoded == 0 and self._in_hand == 0)

    def close(self) -> None:
        """Turn away all threads that wait now or come later."""
        with self._lock:
            self._closed = True
            for waiting in (self._turn, self._room, self._work):
                waiting.notify_all()
