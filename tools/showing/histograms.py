"""Pure: counts of each code of a codebook over records, and their lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Field
from jobs.record_fields import value_keys
from jobs.token_arrays import read_codes

__all__ = [
    "ASCII_BARS",
    "BLOCK_BARS",
    "CodeCounter",
    "Counts",
    "Style",
    "bars",
    "choose_bars",
    "count_codes",
    "perplexity",
    "read_rows",
    "usage_lines",
]

Counts = npt.NDArray[np.int64]
"""int64 [codebooks, codebook_size]: how often each code occurs."""

BLOCK_BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = ".:-=+*#@"
NARROWEST = 12
"""Columns of a histogram on narrower terminals, where its lines wrap."""
BATCH_BYTES = 1 << 17
"""Bytes of JSON that are converted to arrays together."""
HEADINGS = ("codebook", "used", "perplexity")
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    width: int = 80
    """Columns."""
    bars: str = BLOCK_BARS
    """Signs for a histogram, the lowest first."""


def choose_bars(encoding: str | None) -> str:
    """Blocks if the stream's encoding has them, else ASCII."""
    try:
        BLOCK_BARS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BARS
    return BLOCK_BARS


def read_rows(field: Field, records: Sequence[Mapping[str, msgspec.Raw]]) -> npt.NDArray[np.int64]:
    """The codes of one key of valid records, one record after the other: int64 [codebooks, items]; a flat list has one."""
    return np.concatenate(read_codes(field, records), axis=1)


class CodeCounter:
    """Counts the codes of one key over many records."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._held: list[Mapping[str, msgspec.Raw]] = []
        self._bytes = 0
        self._counts = np.zeros((field.width if field.form == "codes" else 1, field.codebook_size), np.int64)

    def add(self, values: Mapping[str, msgspec.Raw]) -> None:
        """Count one valid record."""
        held = {key: values[key].copy() for key in value_keys((self._field,))}  # a slice would keep its whole line
        self._held.append(held)
        self._bytes += len(bytes(held[self._field.name]))
        if self._bytes >= BATCH_BYTES:
            self._count()

    def counts(self) -> Counts:
        """The counts of all records so far."""
        if self._held:
            self._count()
        return self._counts

    def _count(self) -> None:
        self._counts += count_codes(read_rows(self._field, self._held), self._field)
        self._held, self._bytes = [], 0


def count_codes(rows: Iterable[npt.NDArray[np.int64]], field: Field) -> Counts:
    """Codes in the field's range, an array per codebook -> how often each occurs."""
    return np.stack([np.bincount(row - field.lowest, minlength=field.codebook_size) for row in rows])


def perplexity(counts: npt.NDArray[np.int64]) -> float:
    """Perplexity, 2 ** entropy: the number of equally frequent codes that are as hard to predict; 0 without codes."""
    total = counts.sum()
    if not total:
        return 0.0
    shares = counts[counts > 0] / total
    return float(2 ** -(shares * np.log2(shares)).sum())


def bars(counts: npt.NDArray[np.int64], per_column: int, signs: str) -> str:
    """A sign for every `per_column` codes, its height relative to the highest; a blank only where no code occurs at all."""
    starts = np.arange(0, len(counts), per_column)
    widths = np.diff(starts, append=len(counts))
    heights = np.add.reduceat(counts, starts) / widths  # the last column may stand for fewer codes than the others
    if not heights.any():
        return " " * len(starts)
    levels = np.ceil(heights * (len(signs) / heights.max()) - 1e-9).astype(int)
    levels[(levels == 0) & (heights > 0)] = 1
    return "".join((" " + signs)[level] for level in levels)


def usage_lines(counts: Counts, lowest: int, style: Style) -> list[str]:
    """A heading, and a line per codebook: how many of its codes are used, the perplexity, the histogram."""
    codebooks, size = counts.shape
    rows = [HEADINGS]
    for number, row in enumerate(counts):
        rows.append((str(number), f"{np.count_nonzero(row):,} of {size:,}", f"{perplexity(row):,.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [INDENT + "  ".join(map(str.rjust, row, widths)) + "  " for row in rows]
    columns = max(style.width - len(left[0]) - len("||"), NARROWEST)
    per_column = math.ceil(size / columns)
    each = "a column each" if per_column == 1 else f"{per_column:,} to a column"
    lines = [f"{left[0]}codes {lowest:,} to {lowest + size - 1:,}, {each}"]
    return lines + [f"{left[n + 1]}|{bars(counts[n], per_column, style.bars)}|" for n in range(codebooks)]
