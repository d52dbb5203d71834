"""Plots of a run's tokens: how codebooks are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audio_tokenizers.shared.wording import counted
from tools.reporting.figures import boxes, legend, new_figure
from tools.reporting.model import Cell, Plot, Table, value_cell
from tools.reporting.token_totals import Codebook, FieldTokens, describe_codebooks
from tools.reporting.units import number, percent

__all__ = ["codebooks_table", "codes_plot", "entropy_plot"]

COLUMNS = 128
ROWS = 16
LEVELS = ("grid", "pale", "sky", "blue")
"""Of how often codes occur: never, rarely, usually, often."""


def entropy_plot(field: FieldTokens) -> Plot:
    """Entropy, use and repeats of each codebook, as shares of the most there can be."""
    name, title = f"entropy-{_slug(field.name)}", f"Codebooks of {field.name}"
    books = describe_codebooks(field)
    with new_figure(2.3) as (figure, (axes,)):
        width = 0.26
        groups = (
            ("entropy, of log2(size)", "blue", "entropy_share"),
            ("codes used", "teal", "used"),
            ("repeated tokens", "orange", "repeat_share"),
        )
        for place, (words, colour, attribute) in enumerate(groups):
            values = [getattr(book, attribute) / (book.size if attribute == "used" else 1) for book in books]
            x = (place - 1.5) * width * 1.1
            boxes(axes, [(k + x, 0, width, 100 * value) for k, value in enumerate(values)], colour, words)
        axes.set_xlim(-0.6, len(books) - 0.4)
        axes.set_ylim(0, 104)
        axes.set_ylabel("%")
        axes.set_xlabel("codebook")
        step = -(-len(books) // 32)
        axes.set_xticks(range(0, len(books), step))
        axes.grid(visible=False, axis="x")
        legend(axes)
    lowest = min(books, key=lambda book: book.entropy_share)
    alt = (
        f"{title}: {counted(len(books), 'codebook')}; the lowest entropy is that of codebook {lowest.number}, "
        f"{number(lowest.entropy_bits)} bits of {number(float(np.log2(max(lowest.size, 2))))}; "
        f"{counted(sum(book.dead for book in books), 'dead code')}."
    )
    return Plot(name, title, alt, figure)


def codes_plot(field: FieldTokens) -> Plot:
    """How often each code occurs: one strip per codebook."""
    name, title = f"codes-{_slug(field.name)}", f"How often codes of {field.name} occur"
    shown = field.counts[:ROWS]
    columns = min(COLUMNS, shown.shape[1])
    edges = np.linspace(0, shown.shape[1], columns + 1).round().astype(int)
    means = np.add.reduceat(shown, edges[:-1], axis=1) / np.diff(edges)
    usual = np.maximum(shown.mean(axis=1, keepdims=True), 1e-12)
    level = np.select([means == 0, means < 0.25 * usual, means <= 4 * usual], [0, 1, 2], 3)
    words = ("never", "less than a quarter of the mean", "about the mean", "more than four times the mean")
    with new_figure(0.8 + 0.2 * len(shown)) as (figure, (axes,)):
        for place, colour in enumerate(LEVELS):
            spots = [
                (edges[column], -row - 0.9, edges[column + 1] - edges[column], 0.8)
                for row, column in np.argwhere(level == place)
            ]
            boxes(axes, spots, colour, words[place])
        axes.set_xlim(0, shown.shape[1])
        axes.set_ylim(-len(shown) - 0.1, 0.1)
        axes.set_yticks([-row - 0.5 for row in range(len(shown))], [str(row) for row in range(len(shown))])
        axes.set_ylabel("codebook")
        axes.set_xlabel("code")
        axes.grid(visible=False)
        legend(axes, 4)
    per_strip = -(-shown.shape[1] // columns)
    parts = [f"Each strip stands for {per_strip} codes." if per_strip > 1 else ""]
    if len(field.counts) > ROWS:
        parts.append(f"The first {ROWS} of {len(field.counts)} codebooks.")
    empty = percent(float(np.mean(shown == 0)))
    return Plot(name, title, f"{title}: {empty} of the codes never occur.", figure, note=" ".join(filter(None, parts)))


def codebooks_table(field: FieldTokens) -> Table:
    """One row per codebook."""
    return Table(
        f"Codebooks of {field.name}",
        ("codebook", "codes", "used", "dead", "entropy, bits", "perplexity", "commonest code", "repeated"),
        [_row(book) for book in describe_codebooks(field)],
        frozenset(range(8)),
    )


def _row(book: Codebook) -> Sequence[Cell]:
    return (
        value_cell(book.number, str(book.number)),
        value_cell(book.size, f"{book.size:,}"),
        value_cell(book.used, f"{book.used:,}"),
        value_cell(book.dead, f"{book.dead:,}"),
        value_cell(book.entropy_bits, f"{book.entropy_bits:.2f}"),
        value_cell(2**book.entropy_bits),
        value_cell(book.top_share, percent(book.top_share)),
        value_cell(book.repeat_share, percent(book.repeat_share)),
    )


def _slug(name: str) -> str:
    """A key of records as a part of a file's name: a field's name is our own, or that of a backend's package."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name)
