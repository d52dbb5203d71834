"""jobs/packed_counts.py: histograms come back as they were, or nearly so in bounded space, and damage is refused."""

from __future__ import annotations

import base64
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jobs.packed_counts import LONGEST_LIMIT, Counts, PackedCounts, pack_counts, text_limit, unpack_counts

shapes = st.tuples(st.integers(1, 4), st.integers(1, 60))
amounts = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 300), st.integers(0, 1 << 48))


def drawn(codebooks: int, size: int, tokens: int, spread: float) -> Counts:
    """Counts of so many tokens per codebook; the smaller `spread`, the fewer ids have most of them."""
    chance = np.random.default_rng(0)
    return np.array([chance.multinomial(tokens, chance.dirichlet(np.full(size, spread))) for _ in range(codebooks)])


@given(counts=arrays(np.int64, shapes, elements=amounts))
@settings(max_examples=100, deadline=None)
def test_small_histograms_come_back_exactly(counts: Counts) -> None:
    """Any counts, any gaps, codebooks without a token."""
    packed = pack_counts(counts)
    assert (packed.rounded_to, packed.left_out_below) == (None, 1)
    assert packed.used == tuple(np.count_nonzero(counts, axis=1))
    assert (unpack_counts(packed, counts.shape[1]) == counts).all()


@pytest.mark.parametrize(
    ("codebooks", "size", "tokens", "spread", "error"),
    [
        (8, 1024, 250_000, 1.0, 0),  # Higgs, 1,000 clips
        (8, 1024, 2_500_000, 1.0, 1 / 33),  # 10,000 clips
        (1, 8192, 500_000, 1.0, 0),  # BiCodec
        (32, 2048, 1_250_000, 1.0, 1 / 9),  # Mimi with all of its codebooks
    ],
)
def test_many_ids_are_rounded_to_fit(codebooks: int, size: int, tokens: int, spread: float, error: float) -> None:
    """The text stays within its limit; which ids are used stays exact, and counts are off by a known share at most."""
    counts = drawn(codebooks, size, tokens, spread)
    packed = pack_counts(counts)
    assert len(packed.text) <= text_limit(codebooks) <= LONGEST_LIMIT
    found = unpack_counts(packed, size)
    assert ((found > 0) == (counts > 0)).all()
    assert np.abs(found - counts).max(initial=0, where=counts > 0) <= error * counts.max()
    assert (np.abs(found - counts) <= error * counts).all()


def test_of_a_large_vocabulary_the_rarest_ids_are_left_out() -> None:
    """Text tokens: what is left fits, and says below which count ids are missing."""
    counts = drawn(1, 150_000, 500_000, 0.02)
    packed = pack_counts(counts)
    assert len(packed.text) <= text_limit(1)
    assert packed.left_out_below > 1
    found = unpack_counts(packed, 150_000)
    assert ((found > 0) == (counts >= packed.left_out_below)).all()
    assert found.sum() > 0.9 * counts.sum()


def test_the_widest_histograms_still_end() -> None:
    """Every id of many codebooks, with counts far apart: the limit holds, and the most frequent ids are kept."""
    counts = np.random.default_rng(0).integers(1 << 20, 1 << 40, (64, 1 << 11))
    packed = pack_counts(counts)
    assert LONGEST_LIMIT / 2 < len(packed.text) <= LONGEST_LIMIT
    assert ((unpack_counts(packed, 1 << 11) > 0) == (counts >= packed.left_out_below)).all()


@pytest.mark.slow
def test_damage_is_an_error() -> None:
    """Cut, changed or foreign text, ids out of range, too much of it: a ValueError, and never memory without bound."""
    good = pack_counts(np.arange(40).reshape(2, 20))
    change = msgspec.structs.replace
    bomb = base64.b64encode(zlib.compress(bytes(64 << 20))).decode()
    for bad, size in (
        (change(good, text=good.text[:-8]), 20),
        (change(good, text=good.text[4:]), 20),
        (change(good, text="é" * 8), 20),
        (change(good, text=""), 20),
        (change(good, text=bomb[:LONGEST_LIMIT]), 20),
        (change(good, text=bomb), 20),
        (change(good, used=(19, 21)), 30),
        (change(good, used=(1, 1)), 20),
        (change(good, used=(-1, 40)), 60),
        (change(good, rounded_to=70), 20),
        (change(good, rounded_to=-1), 20),
        (good, 10),
        (packed_of(1 << 62, rounded_to=0), 8),
        (packed_of(1 << 63), 8),
        (packed_of(1 << 70), 8),
        (packed_of(0), 8),
        (packed_of(3), 9),
    ):
        with pytest.raises(ValueError, match=r"expected|does not fit"):
            unpack_counts(bad, size)


def packed_of(number: int, rounded_to: int | None = None) -> PackedCounts:
    """One codebook of eight ids, of which the first occurs, with this for a count."""
    raw = bytearray([128])
    while number >= 128:
        raw.append(number & 127 | 128)
        number >>= 7
    text = base64.b64encode(zlib.compress(bytes([*raw, number]))).decode()
    return PackedCounts(text=text, used=(1,), rounded_to=rounded_to)


@given(text=st.binary(max_size=40), used=st.lists(st.integers(0, 9), max_size=3), bits=st.none() | st.integers(0, 16))
@settings(max_examples=150, deadline=None)
def test_foreign_bytes_are_an_error_or_counts(text: bytes, used: list[int], bits: int | None) -> None:
    """Whatever a manifest says, nothing but a ValueError comes of it."""
    packed = PackedCounts(text=base64.b64encode(zlib.compress(text)).decode(), used=tuple(used), rounded_to=bits)
    try:
        counts = unpack_counts(packed, 12)
    except ValueError:
        return
    assert counts.shape == (len(used), 12)
    assert counts.min(initial=0) >= 0
