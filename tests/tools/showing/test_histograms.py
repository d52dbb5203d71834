"""tools/showing/histograms.py: counts over records, and their lines for a terminal."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from audio_tokenizers.base import Field
from jobs.record_fields import to_json
from tools.showing import histograms
from tools.showing.histograms import (
    ASCII_BARS,
    BLOCK_BARS,
    CodeCounter,
    Style,
    bars,
    choose_bars,
    count_codes,
    perplexity,
    read_rows,
    usage_lines,
)

CODES = Field(name="tokens", form="codes", width=3, codebook_size=1024)
LIST = Field(name="token_ids", form="list", lowest=65536, codebook_size=5120)
STRING = Field(name="tokens", form="audio_string", codebook_size=5120)


def values_of(field: Field, array: npt.NDArray[Any]) -> dict[str, msgspec.Raw]:
    """A record's values, as a backend that gave `array` would have written them."""
    return {key: msgspec.Raw(text) for key, text in to_json((field,), {field.name: array}, 0)[0].items()}


@pytest.mark.parametrize(("encoding", "signs"), [("utf-8", BLOCK_BARS), ("gb18030", BLOCK_BARS), ("latin-1", ASCII_BARS)])
def test_signs_that_the_stream_can_carry(encoding: str, signs: str) -> None:
    """Blocks only where the encoding has them; a stream without one, or with one that nobody knows, gets ASCII."""
    assert choose_bars(encoding) == signs
    assert choose_bars(None) == choose_bars("no-such-encoding") == ASCII_BARS


class TestBars:
    def test_heights_are_relative_to_the_highest(self) -> None:
        """A blank stands for codes that never occur; whatever occurs has at least the lowest sign."""
        assert bars(np.array([0, 1, 4, 8, 100, 400, 800]), 1, BLOCK_BARS) == " ▁▁▁▁▄█"
        assert bars(np.array([1, 2, 3, 4, 5, 6, 7, 8]), 1, BLOCK_BARS) == BLOCK_BARS
        assert bars(np.array([1, 2, 3, 4, 5, 6, 7, 8]), 1, ASCII_BARS) == ASCII_BARS
        assert bars(np.zeros(5, np.int64), 2, BLOCK_BARS) == "   "

    def test_a_column_of_fewer_codes_is_no_lower(self) -> None:
        """Codes that are equally frequent make a flat line, although the last column stands for fewer of them."""
        assert bars(np.full(10, 7), 4, BLOCK_BARS) == "███"
        assert bars(np.array([1, 1, 0, 0, 8]), 2, BLOCK_BARS) == "▁ █"


def test_perplexity() -> None:
    """As many as there are codes where all are equally frequent, 1 where there is one only, in between otherwise."""
    assert perplexity(np.array([5, 5, 0, 5, 5])) == pytest.approx(4)
    assert perplexity(np.array([0, 9, 0])) == pytest.approx(1)
    assert perplexity(np.array([1, 3])) == pytest.approx(2 ** (0.25 * 2 + 0.75 * np.log2(4 / 3)))
    assert perplexity(np.zeros(3, np.int64)) == 0


@pytest.mark.parametrize("field", [CODES, LIST, STRING])
def test_counts_over_records(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code of every record is counted once in its codebook, wherever a batch ends, in each form of writing them."""
    monkeypatch.setattr(histograms, "BATCH_BYTES", 4000)
    rng = np.random.default_rng(0)
    shapes = [(field.width, items) if field.form == "codes" else (items,) for items in rng.integers(1, 200, 40)]
    arrays = [rng.integers(field.lowest, field.lowest + field.codebook_size, shape) for shape in shapes]
    counter = CodeCounter(field)
    for array in arrays:
        counter.add(values_of(field, array))
    joined = np.concatenate([np.atleast_2d(array) for array in arrays], axis=1)
    expected = np.zeros((len(joined), field.codebook_size), np.int64)
    for row, codes in enumerate(joined):
        np.add.at(expected[row], codes - field.lowest, 1)
    assert np.array_equal(counter.counts(), expected)
    assert np.array_equal(read_rows(field, [values_of(field, arrays[0])]), np.atleast_2d(arrays[0]))
    assert np.array_equal(count_codes(joined, field), expected)


def test_a_counter_of_short_values_does_not_keep_long_lines() -> None:
    """Of a record with a few numbers beside much else only those are held until there are enough to count."""
    line = b'{"other":"' + bytes(200_000).replace(b"\0", b"x") + b'","token_ids":[65536,65537]}'
    counter = CodeCounter(LIST)
    tracemalloc.start()
    try:
        for _ in range(50):
            counter.add(msgspec.json.decode(bytearray(line), type=dict[str, msgspec.Raw]))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    assert counter.counts()[0, :3].tolist() == [50, 50, 0]


class TestLines:
    def test_of_two_codebooks(self) -> None:
        """A line each, under a heading that says which codes there are and how many share a column."""
        counts = np.array([[1] * 16 + [0] * 16, [0] * 30 + [8, 8]])
        assert usage_lines(counts, 0, Style(width=56)) == [
            "    codebook      used  perplexity  codes 0 to 31, 2 to a column",
            "           0  16 of 32        16.0  |████████        |",
            "           1   2 of 32         2.0  |               █|",
        ]
        assert usage_lines(counts, 100, Style(80, ASCII_BARS))[:2] == [
            "    codebook      used  perplexity  codes 100 to 131, a column each",
            "           0  16 of 32        16.0  |@@@@@@@@@@@@@@@@                |",
        ]

    @pytest.mark.parametrize("width", [60, 80, 200])
    def test_of_many_codebooks(self, width: int) -> None:
        """32 codebooks are 32 lines of one length that fit the terminal, however many codes there are."""
        counts = np.random.default_rng(0).integers(0, 5, (32, 65536))
        lines = usage_lines(counts, 0, Style(width))[1:]
        assert len(lines) == 32
        assert {len(line) for line in lines} <= set(range(width - 20, width + 1))
        assert len({len(line) for line in lines}) == 1

    def test_in_a_terminal_that_is_too_narrow(self) -> None:
        """The histogram keeps some columns rather than vanish."""
        assert usage_lines(np.ones((1, 64), np.int64), 0, Style(width=10))[1].endswith(f"|{'█' * 11}|")
