"""tools/packing/loading.py: items are read ahead by threads, and given out in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.fake_source import AUDIO, FakeSource

from audio_tokenizers.errors import InfrastructureError
from tools.packing.loading import Stream, load_ahead
from tools.packing.members import Loaded
from tools.packing.pairs import Item, LeftOut


def test_order_is_that_of_the_source() -> None:
    """However long each one takes, items come in order, with what their header says."""
    source = FakeSource(20, without_text=(3,))

    def slow(item: Item, number: int) -> Item:
        def read() -> object:
            time.sleep(0.003 * (number % 3))
            return item()

        return read  # type: ignore[return-value]

    items = [slow(item, number) for number, item in enumerate(source.items(0))]
    found = list(load_ahead(items, 4))
    assert [item.pair.id if isinstance(item, Loaded) else item.name for item in found] == [
        "003.lab" if number == 3 else f"spk/{number:03}" for number in range(20)
    ]
    assert isinstance(found[0], Loaded)
    assert (found[0].sample_rate, found[0].seconds) == (8000, 0.05)


def test_only_a_few_are_read_ahead() -> None:
    """Memory does not grow with the data set: threads stop a few items ahead of whoever takes them."""
    read = 0
    lock = threading.Lock()

    def items() -> Iterator[Item]:
        nonlocal read
        for item in FakeSource(1000).items(0):
            with lock:
                read += 1
            yield item

    loaded = load_ahead(items(), 3)
    next(loaded)
    assert read <= 10
    loaded.close()


def test_files_that_nobody_takes_are_closed() -> None:
    """Whoever stops early leaves no file open."""
    opened: list[Any] = []

    def item() -> object:
        opened.append(FakeSource(1, as_files=True).read(0))
        return opened[-1]

    loaded = load_ahead([item] * 20, 2)  # type: ignore[list-item]
    first = next(loaded)
    loaded.close()
    assert isinstance(first, Loaded)
    assert [pair.audio.closed for pair in opened] == [False] + [True] * (len(opened) - 1)


def test_a_source_that_is_not_read_to_its_end_is_closed() -> None:
    """The file or process that it reads from does not wait for the garbage collector."""
    closed = []

    def items() -> Iterator[Item]:
        try:
            yield from FakeSource(100).items(0)
        finally:
            closed.append(True)

    source = items()
    loaded = load_ahead(source, 2)
    next(loaded)
    loaded.close()
    assert closed == [True]


def test_the_file_at_hand_is_closed_with_the_stream() -> None:
    """Where the disk is full before an item is written, nobody else closes it."""
    with closing(load_ahead(FakeSource(3, as_files=True).items(0), 1)) as loaded:
        with closing(Stream(loaded, 0)) as stream:
            held = stream.peek()
        assert isinstance(held, Loaded)
        assert not isinstance(held.pair.audio, bytes)
        assert held.pair.audio.closed


def test_what_is_no_audio_for_libsndfile_is_packed_all_the_same() -> None:
    """Whether a clip can be decoded is the tokenizer's to say; the packer only does not know its rate."""
    pair = FakeSource().read(0)
    assert not isinstance(pair, LeftOut)
    object.__setattr__(pair, "audio", b"not audio")
    (found,) = load_ahead([lambda: pair], 1)
    assert isinstance(found, Loaded)
    assert (found.sample_rate, found.pair.audio) == (None, b"not audio")


def test_a_disk_that_fails_is_no_data() -> None:
    """An error of the machine names the file and ends the command: it never leaves a clip out."""

    def item() -> LeftOut:
        raise OSError(5, "Input/output error", "x.wav")

    with pytest.raises(InfrastructureError, match=r"x\.wav: cannot be read: Input/output error"):
        list(load_ahead([item], 1))


def test_stream_counts_from_where_it_begins() -> None:
    """A stream's number is that of the item at hand, also when the first ones were packed before."""
    stream = Stream(load_ahead(FakeSource(5).items(3), 1), 3)
    assert stream.number == 3
    stream.advance()
    item = stream.peek()
    assert isinstance(item, Loaded)
    assert (stream.number, item.pair.id, item.pair.audio) == (4, "spk/004", AUDIO)
    stream.advance()
    assert (stream.number, stream.peek()) == (5, None)
