"""jobs/feed.py: memory is bounded, nothing that is wanted waits for ever, and the device's seconds are told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from support.waiting import Waiter, until

from audio_tokenizers.base import Batching
from jobs.batcher import Batch, Batcher
from jobs.feed import GATHER_SECONDS, Feed, Share
from jobs.lane_grid import LaneGrid


@dataclass(frozen=True, eq=False)
class Piece:
    """An item of as many samples as bytes."""

    size: int
    share: Share = field(default_factory=Share)


class Clock:
    """Stands still, unless told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_feed(
    *,
    most_bytes: int = 100,
    batching: Batching = Batching.SINGLE,
    max_batch: int = 1,
    most_undecoded: int = 2,
    clock: Clock | None = None,
) -> Feed[Piece]:
    lanes = batching is Batching.LANES
    batcher: Batcher[Piece] = Batcher(
        batching,
        max_batch,
        max_samples=10**9,
        samples=lambda piece: piece.size,
        order=lambda _piece: (0,),
        grid=LaneGrid(lanes=max_batch, sample_rate=10, hop_length=1, fragment_frames=40) if lanes else None,
    )
    return Feed(
        batcher,
        most_bytes=most_bytes,
        most_items=None if lanes else 4 * max_batch,
        most_undecoded=most_undecoded,
        max_batch=max_batch,
        clock=clock or Clock(),
    )


def give(feed: Feed[Piece], size: int, share: Share | None = None) -> Piece:
    piece = Piece(size, share or Share())
    assert feed.reserve(piece.share, size)
    feed.put(piece)
    return piece


def blocked(feed: Feed[Piece], size: int, share: Share | None = None) -> Waiter:
    """A thread that waits for memory."""
    found = share or Share()
    before = feed._blocked
    waiter = Waiter(lambda: feed.reserve(found, size))
    until(lambda: feed._blocked == before + 1 or not waiter.waits)
    assert waiter.waits
    return waiter


def pieces(batch: Batch[Piece] | None) -> list[Piece]:
    assert batch is not None
    return batch.items


class TestMemory:
    def test_whoever_exceeds_it_waits_until_there_is_room(self) -> None:
        """Encoding frees the audio; what the clip became counts until its line is written."""
        feed = a_feed()
        first = give(feed, 60)
        give(feed, 40)
        waiter = blocked(feed, 30)
        batch = feed.take(wait=False)
        assert pieces(batch) == [first]
        assert batch is not None
        feed.hold(first.share, 45)  # its codes, told before the audio is gone
        feed.encoded(batch)
        assert waiter.waits
        feed.drop(first.share)
        assert waiter.join() is True

    def test_the_clip_that_is_due_gets_through(self) -> None:
        """All lines wait for its own: it may exceed the bound by a batch, and no further."""
        feed = a_feed(max_batch=2, batching=Batching.ANY)
        give(feed, 100)
        due = Share()
        waiter = blocked(feed, 50, due)
        feed.lead(due)
        assert waiter.join() is True
        feed.put(Piece(50, due))
        give(feed, 50, due)
        third = blocked(feed, 50, due)
        batch = feed.take(wait=False)
        assert batch is not None
        assert third.waits
        feed.encoded(batch)
        assert third.join() is True

    def test_a_piece_larger_than_the_memory_passes_alone(self) -> None:
        """When no other clip holds anything, and the clip itself has nothing on its way to the device."""
        feed = a_feed()
        small, large = give(feed, 1), Share()
        assert feed.reserve(large, 10)
        waiter = blocked(feed, 1000, large)
        feed.take(wait=False)
        feed.drop(small.share)
        assert waiter.join() is True
        feed.put(Piece(1000, large))
        assert blocked(feed, 1000, large).waits
        feed.close()

    def test_what_nobody_wants_any_more_is_forgotten(self) -> None:
        """A dropped clip frees its bytes and waits for nothing, and the device does not get what it had."""
        feed = a_feed()
        dropped = give(feed, 100)
        waiter, kept = blocked(feed, 10, dropped.share), blocked(feed, 10)
        feed.drop(dropped.share)
        assert (waiter.join(), kept.join()) == (False, True)
        feed.put(Piece(10, dropped.share))
        assert feed.take(wait=False) is None
        assert feed.reserve(dropped.share, 1) is False

    def test_items_are_bounded_where_the_device_takes_what_there_is(self) -> None:
        """More would only take memory: a batch costs what is in it."""
        feed = a_feed(most_bytes=10**9)
        for _ in range(4):
            give(feed, 1)
        waiter = blocked(feed, 1)
        feed.take(wait=False)
        assert waiter.join() is True


class TestFilesThatWaitToBeDecoded:
    def test_they_take_half_of_the_memory_at_most(self) -> None:
        """However few they are, a reader waits while they fill their half, until one of them is decoded."""
        feed = a_feed()
        first = Share()
        assert feed.announce(first, 1, 40)
        assert first.bytes == feed._held == 41
        reader = Waiter(lambda: feed.announce(Share(), 1, 11))
        until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
        assert feed._blocked == 0  # it waits for decoders, who have work: calls may fill up
        feed.decoded(first, 40)
        assert reader.join() is True
        assert first.bytes == 1
        assert feed._held == 13

    def test_what_others_hold_counts_too(self) -> None:
        """A reader waits for memory, and says so, until what others hold is written."""
        feed = a_feed()
        piece = give(feed, 60)
        share = Share()
        before = feed._blocked
        reader = Waiter(lambda: feed.announce(share, 1, 40))
        until(lambda: feed._blocked == before + 1)
        feed.drop(piece.share)
        assert reader.join() is True
        assert feed._held == share.bytes == 41

    def test_one_that_is_larger_than_all_memory_passes_alone_or_when_it_is_due(self) -> None:
        """Or nobody would ever move."""
        feed = a_feed()
        large, due = Share(), Share()
        assert feed.announce(large, 1, 500)
        reader = Waiter(lambda: feed.announce(due, 1, 500))
        until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
        feed.lead(due)
        assert reader.join() is True

    def test_one_that_nobody_wants_holds_nothing(self) -> None:
        """Dropped while a reader waits with it, or while it is decoded."""
        feed = a_feed()
        first, second = Share(), Share()
        assert feed.announce(first, 1, 40)
        reader = Waiter(lambda: feed.announce(second, 1, 40))
        until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
        feed.drop(second)
        assert reader.join() is False
        assert feed.wants(first)
        feed.drop(first)
        assert not feed.wants(first)
        feed.decoded(first, 40)
        assert (feed._held, feed._undecoded, feed._undecoded_bytes) == (0, 0, 0)


class TestBatches:
    def test_an_idle_device_takes_what_there_is(self) -> None:
        """Where a batch costs what is in it, there is nothing to wait for."""
        feed = a_feed(batching=Batching.ANY, max_batch=3)
        waiter = Waiter(lambda: feed.take(wait=True))
        one = give(feed, 1)
        assert pieces(waiter.join()) == [one]

    def test_calls_with_lanes_wait_until_they_are_full(self) -> None:
        """A call costs the same however full it is."""
        feed = a_feed(batching=Batching.LANES, max_batch=2)
        first = give(feed, 5)
        assert feed.take(wait=False) is None
        waiter = Waiter(lambda: feed.take(wait=True))
        second = give(feed, 5)
        assert pieces(waiter.join()) == [first, second]

    def test_but_not_while_somebody_waits_for_memory(self) -> None:
        """Nobody else could fill them up."""
        feed = a_feed(batching=Batching.LANES, max_batch=2)
        first = give(feed, 60)
        device = Waiter(lambda: feed.take(wait=True))
        waiter = Waiter(lambda: feed.reserve(Share(), 60))
        batch = device.join()
        assert pieces(batch) == [first]
        feed.encoded(batch)
        assert waiter.join() is True

    def test_nor_when_nothing_else_is_to_come(self) -> None:
        """At the end of a list of tars, whatever waits goes; when more is expected, it waits again."""
        feed = a_feed(batching=Batching.LANES, max_batch=2)
        first = give(feed, 5)
        device = Waiter(lambda: feed.take(wait=True))
        feed.expect(more=False)
        assert pieces(device.join()) == [first]
        feed.expect(more=True)
        give(feed, 5)
        assert feed.take(wait=False) is None

    def test_clips_that_are_being_decoded_are_to_come(self) -> None:
        """Whatever is expected after them: the last calls of a run fill up from what is in the decoders' hands."""
        feed = a_feed(batching=Batching.LANES, max_batch=2)
        feed.expect(more=False)
        assert feed.announce(Share())
        assert feed.announce(Share())
        first = give(feed, 5)
        feed.decoded(Share())
        assert feed.take(wait=False) is None
        device = Waiter(lambda: feed.take(wait=True))
        feed.decoded(Share())
        assert pieces(device.join()) == [first]

    def test_nor_for_longer_than_the_bound(self) -> None:
        """The oldest goes when it has waited for GATHER_SECONDS."""
        clock = Clock()
        feed = a_feed(batching=Batching.LANES, max_batch=2, clock=clock)
        first = give(feed, 5)
        clock.now = GATHER_SECONDS - 1
        give(feed, 9)
        assert feed.take(wait=False) is None
        clock.now = GATHER_SECONDS
        assert pieces(feed.take(wait=False)) == [first]
        assert feed.take(wait=False) is None


def test_clips_in_the_decoders_hands_are_bounded() -> None:
    """Whoever reads waits for its turn, or until nobody wants the clip any more, whatever the decoders wait for."""
    feed = a_feed()
    for _ in range(2):
        assert feed.announce(Share())
    dropped = Share()
    first = Waiter(lambda: feed.announce(dropped))
    until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
    feed.drop(dropped)
    assert first.join() is False
    second = Waiter(lambda: feed.announce(Share()))
    until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
    feed.decoded(Share())
    assert second.join() is True


def test_a_reader_that_waits_is_left_asleep_until_several_clips_may_be_read() -> None:
    """Where threads share a core, a reader that wakes up for each clip takes time from those that decode."""
    feed = a_feed(most_undecoded=4)
    shares = [Share() for _ in range(4)]
    assert all(map(feed.announce, shares))
    reader = Waiter(lambda: [feed.announce(Share()), feed.announce(Share())])
    until(lambda: feed._turn._waiters)  # type: ignore[attr-defined]
    feed.decoded(shares[0])
    feed.drop(shares[0])
    assert feed._turn._waiters  # type: ignore[attr-defined]
    feed.decoded(shares[1])
    assert reader.join() == [True, True]


def test_closing_sends_everybody_away() -> None:
    """Readers, decoders and the device, those that wait and those that come later."""
    feed = a_feed()
    device = Waiter(lambda: feed.take(wait=True))
    closing: list[Any] = [device]
    feed.close()
    assert device.join() is None
    assert feed.reserve(Share(), 1) is False
    assert feed.take(wait=True) is None
    assert feed.announce(Share()) is False
    full = a_feed()
    give(full, 100)
    closing.append(blocked(full, 1))
    for _ in range(2):
        full.announce(Share())
    closing.append(Waiter(lambda: full.announce(Share())))
    until(lambda: full._turn._waiters)  # type: ignore[attr-defined]
    full.close()
    assert [waiter.join() for waiter in closing[1:]] == [False, False]


@pytest.mark.parametrize("memory_full", [False, True])
def test_what_the_device_waited_for(*, memory_full: bool) -> None:
    """Audio that was not decoded yet; or the writer, where the memory is full of what has been encoded."""
    clock = Clock()
    feed = a_feed(clock=clock)
    encoded = give(feed, 90)
    batch = feed.take(wait=False)
    assert batch is not None
    feed.hold(encoded.share, 90)
    feed.encoded(batch)
    share = Share()
    decoder = blocked(feed, 50, share) if memory_full else None
    device = Waiter(lambda: feed.take(wait=True))
    until(lambda: feed._work._waiters)  # type: ignore[attr-defined]
    clock.now = 3.0
    feed.drop(encoded.share)
    if decoder is not None:
        assert decoder.join() is True
    else:
        assert feed.reserve(share, 50)
    feed.put(Piece(50, share))
    assert pieces(device.join())[0].size == 50
    assert (feed.time.audio, feed.time.writer) == ((0.0, 3.0) if memory_full else (3.0, 0.0))
