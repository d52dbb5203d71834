"""Pure: what the page is made of: tables, plots, tiles and notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # matplotlib is an extra
    from matplotlib.figure import Figure

__all__ = ["Cell", "Notice", "Plot", "Section", "Table", "Tile", "text_cell", "value_cell"]

Severity = Literal["bad", "warn", "info", "good"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    text: str
    sort: float | None = None
    """What a column of numbers is sorted by; None sorts by the text."""


def text_cell(text: object) -> Cell:
    """A cell of text."""
    return Cell(str(text))


def value_cell(value: float | None, text: str | None = None) -> Cell:
    """A cell with a number; `-` where there is none."""
    if value is None:
        return Cell("-", float("-inf"))
    from tools.reporting.units import number

    return Cell(text if text is not None else number(value), float(value))


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be sorted."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    """Columns of numbers."""
    more: str = ""
    """What is not shown."""


@dataclass(frozen=True)
class Plot:
    """A plot, or why there is none."""

    name: str
    """Its file name without a suffix: ASCII letters, digits, dashes and underscores."""
    title: str
    alt: str = ""
    """What it shows, for readers who do not see it."""
    figure: Figure | None = None
    missing: str = ""
    """Why there is no figure."""
    note: str = ""
    """How to read it."""
    table: Table | None = None
    """Its values."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that needs attention, and the command that mends it."""

    severity: Severity
    text: str
    command: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    key: str
    """Its anchor."""
    title: str
    lead: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    empty: str = ""
    """What to say instead."""
    tiles: Sequence[Tile] = field(default_factory=tuple)
