"""jobs/refusals.py: a clip is refused when the machine has shown that it is well."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import pytest

from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.losses import Losses
from jobs.refusals import WatchedFile, confirmed, require_memory

Decode = Callable[[IO[bytes], Losses], Iterator[int]]


def decoder(*tries: tuple[int, str], lost: Iterable[float] = ()) -> tuple[list[int], Decode]:
    """A decoder that gives so many blocks and ends in these words, another time the next ones; and where each began.

    `lost` are the seconds of the tries that lose some.
    """
    positions: list[int] = []
    left = iter(tries)
    seconds = iter(lost)

    def decode(file: IO[bytes], losses: Losses) -> Iterator[int]:
        positions.append(file.tell())
        blocks, words = next(left)
        yield from range(blocks)
        if missing := next(seconds, 0.0):
            losses.add(missing, "its end")
        if words:
            raise ClipError("decode", words)

    return positions, decode


def outcome(decode: Decode, file: IO[bytes] | None = None) -> list[int]:
    return list(confirmed(decode, file or io.BytesIO(b"data"), Losses()))


def test_what_goes_well_is_read_once() -> None:
    """The second reading is for refusals."""
    positions, decode = decoder((3, ""))
    assert outcome(decode) == [0, 1, 2]
    assert positions == [0]


def test_a_refusal_that_comes_again_is_the_clips() -> None:
    """At the same block and in the same words; the blocks before it are given out once, and both readings begin at 0."""
    positions, decode = decoder((2, "damaged"), (2, "damaged"))
    found: list[int] = []
    with pytest.raises(ClipError, match=r"^damaged$"):
        found.extend(confirmed(decode, io.BytesIO(b"data"), Losses()))
    assert (found, positions) == ([0, 1], [0, 0])


@pytest.mark.parametrize("second", [(2, ""), (3, "damaged"), (1, "damaged"), (9, ""), (2, "cut short")])
def test_a_refusal_that_does_not_come_again_is_the_machines(second: tuple[int, str]) -> None:
    """Then nobody knows what the clip is."""
    _, decode = decoder((2, "damaged"), second)
    with pytest.raises(InfrastructureError, match=r"could not be decoded \(damaged\), but a second try"):
        outcome(decode)


def test_losses_that_come_again_are_the_clips() -> None:
    """They are told after the last block, once, beside those of before."""
    positions, decode = decoder((2, ""), (2, ""), lost=(0.5, 0.5))
    losses = Losses(1.0, ["its start"])
    blocks = confirmed(decode, io.BytesIO(b"data"), losses)
    assert [next(blocks), next(blocks), losses.seconds] == [0, 1, 1.0]
    assert list(blocks) == []
    assert losses == Losses(1.5, ["its start", "its end"])
    assert positions == [0, 0]


@pytest.mark.parametrize(
    ("second", "lost"),
    [((2, ""), 0.0), ((2, ""), 0.4), ((2, "damaged"), 0.5), ((1, ""), 0.5), ((3, ""), 0.5)],
)
def test_losses_that_do_not_come_again_are_the_machines(second: tuple[int, str], lost: float) -> None:
    """A record that says what is missing stays for good, as a refusal does."""
    _, decode = decoder((2, ""), second, lost=(0.5, lost))
    losses = Losses()
    with pytest.raises(InfrastructureError, match=r"could not be decoded \(its end\), but a second try"):
        list(confirmed(decode, io.BytesIO(b"data"), losses))
    assert losses == Losses()


def test_a_file_that_cannot_be_read_refuses_no_clip() -> None:
    """A decoder that reads a descriptor says only that the data ends: reading the file through says why."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    _, decode = decoder((2, "cut short"), (2, "cut short"))
    with pytest.raises(OSError, match="Input/output"):
        outcome(decode, Failing(b"data"))


def test_without_memory_no_clip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that gets none says that the data is damaged, each time."""
    require_memory()
    monkeypatch.setattr("jobs.refusals.MUCH_MEMORY", 1 << 60)
    _, decode = decoder((2, "damaged"), (2, "damaged"))
    with pytest.raises(MemoryError):
        outcome(decode)


@pytest.mark.parametrize("trouble", [OSError(errno.ESTALE, "Stale file handle"), MemoryError()])
@pytest.mark.parametrize("method", ["read", "readinto", "seek", "tell"])
def test_what_a_decoder_does_not_pass_on_is_raised_after_all(
    method: str, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the decoder the file ends there."""

    class Failing(io.BytesIO):
        pass

    def fail(*_arguments: object) -> None:
        raise trouble

    monkeypatch.setattr(Failing, method, fail)
    watched = WatchedFile(Failing(b"data"))
    watched.check()
    arguments = {"read": (4,), "readinto": (bytearray(4),), "seek": (0,), "tell": ()}[method]
    assert getattr(watched, method)(*arguments) in (b"", 0)
    with pytest.raises(type(trouble)):
        watched.check()


def test_a_place_that_no_file_has_is_no_trouble() -> None:
    """A damaged header sends its decoder there: that is the decoder's to say."""
    with tempfile.TemporaryFile() as file:
        watched = WatchedFile(file)
        with pytest.raises(OSError, match="Invalid"):
            watched.seek(-5)
        watched.check()


def test_that_something_is_missing_before_a_block_is_said_with_it() -> None:
    """Not before, and not only at the end, when it is too late for whoever cuts."""

    def decode(_: IO[bytes], told: Losses) -> Iterator[int]:
        yield 0
        told.shifted = True
        yield 1
        told.doubt = 2.0

    losses = Losses()
    assert [losses.shifted for _ in confirmed(decode, io.BytesIO(b"data"), losses)] == [False, True]
    assert losses == Losses(shifted=True, doubt=2.0)
