"""Plots of a run's tokens: how codebooks are used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from audio_tokenizers.shared.wording import counted
from jobs.packed_counts import Counts
from jobs.plain_text import plain
from tools.checking.token_report import CodebookReport, SequenceReport
from tools.reporting.figures import boxes, legend, new_figure
from tools.reporting.model import Cell, Plot, Table, text_cell, value_cell
from tools.reporting.units import duration, number, percent

__all__ = ["codebooks_table", "codes_plot", "entropy_plot"]

COLUMNS = 128
ROWS, FEWEST_GROUPS = 16, 6
LEVELS = ("grid", "pale", "sky", "blue")
"""Of how often codes occur: never, rarely, usually, often."""
LEVEL_WORDS = ("never", "less than a quarter of the mean", "about the mean", "more than four times the mean")
NAME_CHARACTERS = 60


def entropy_plot(found: SequenceReport) -> Plot:
    """Entropy, use and repeats of each codebook, as shares of the most there can be."""
    key = plain(found.key)
    name, title = f"entropy-{_slug(found.key)}", f"Codebooks of {key}"
    most = math.log2(found.size) if found.size > 1 else 1.0
    groups = (
        ("entropy, of log2(size)", "blue", [book.entropy / most for book in found.codebooks]),
        ("codes used", "teal", [book.used / found.size for book in found.codebooks]),
        ("repeated tokens", "orange", [book.repeated_share for book in found.codebooks]),
    )
    with new_figure(2.3) as (figure, (axes,)):
        width = 0.26
        for place, (words, colour, values) in enumerate(groups):
            x = (place - 1.5) * width * 1.1
            boxes(axes, [(k + x, 0, width, 100 * value) for k, value in enumerate(values)], colour, words)
        axes.set_xlim(-0.6, max(len(found.codebooks), FEWEST_GROUPS) - 0.4)
        axes.set_ylim(0, 104)
        axes.set_ylabel("%")
        axes.set_xlabel("codebook")
        axes.set_xticks(range(0, len(found.codebooks), -(-len(found.codebooks) // 32)))
        axes.grid(visible=False, axis="x")
        legend(axes)
    lowest, bits = min(enumerate(book.entropy for book in found.codebooks), key=lambda each: each[1])
    alt = (
        f"{title}: {counted(len(found.codebooks), 'codebook')}; the lowest entropy is that of codebook {lowest}, "
        f"{number(bits)} bits of {number(most)}; {counted(sum(book.dead for book in found.codebooks), 'dead code')}."
    )
    return Plot(name, title, alt, figure)


def codes_plot(key: str, counts: Counts) -> Plot:
    """How often each code occurs: one strip per codebook. `counts`: [codebooks, codes]."""
    name, title = f"codes-{_slug(key)}", f"How often codes of {plain(key)} occur"
    shown = counts[:ROWS]
    size = shown.shape[1]
    columns = min(COLUMNS, size)
    edges = np.linspace(0, size, columns + 1).round().astype(int)
    means = np.add.reduceat(shown, edges[:-1], axis=1) / np.diff(edges)
    usual = shown.mean(axis=1, keepdims=True)
    level = np.select([means == 0, means < 0.25 * usual, means <= 4 * usual], [0, 1, 2], 3)
    with new_figure(0.8 + 0.2 * max(len(shown), 2)) as (figure, (axes,)):
        for place, colour in enumerate(LEVELS):
            strips = np.argwhere(level == place)
            spots = [(edges[column], -row - 0.9, edges[column + 1] - edges[column], 0.8) for row, column in strips]
            boxes(axes, spots, colour, LEVEL_WORDS[place])
        axes.set_xlim(0, size)
        axes.set_ylim(-len(shown) - 0.1, 0.1)
        axes.set_yticks([-row - 0.5 for row in range(len(shown))], [str(row) for row in range(len(shown))])
        axes.set_ylabel("codebook")
        axes.set_xlabel("code")
        axes.grid(visible=False)
        legend(axes, 4)
    notes = [f"Each strip stands for {-(-size // columns)} codes."] if size > columns else []
    notes += [f"The first {ROWS} of {len(counts)} codebooks."] if len(counts) > ROWS else []
    empty = percent(float(np.mean(shown == 0)))
    return Plot(name, title, f"{title}: {empty} of the codes never occur.", figure, note=" ".join(notes))


def codebooks_table(found: SequenceReport) -> Table:
    """One row per codebook."""
    columns = ("codebook", "codes", "used", "dead", "entropy, bits", "repeated", "longest stretch", "of one token, in")
    rows = [_row(number, book, found.size) for number, book in enumerate(found.codebooks)]
    return Table(f"Codebooks of {plain(found.key)}", columns, rows, frozenset(range(7)))


def _row(place: int, book: CodebookReport, size: int) -> Sequence[Cell]:
    stretch = book.longest
    length, where = value_cell(None), text_cell("-")
    if stretch is not None:
        words = f"{stretch.items:,} tokens" if stretch.seconds is None else duration(stretch.seconds)
        length = value_cell(stretch.items, words)
        where = text_cell(
            f"{plain(stretch.tar[-NAME_CHARACTERS:])}: {plain(stretch.clip[-NAME_CHARACTERS:])} (line {stretch.line})"
        )
    return (
        value_cell(place, str(place)),
        value_cell(size, f"{size:,}"),
        value_cell(book.used, f"{book.used:,}"),
        value_cell(book.dead, f"{book.dead:,}"),
        value_cell(book.entropy, f"{book.entropy:.2f}"),
        value_cell(book.repeated_share, percent(book.repeated_share)),
        length,
        where,
    )


def _slug(name: str) -> str:
    """A key of records as a part of a file's name."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in name)
