"""Plots as plain SVG text: lines over an axis, and bars side by side. The same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "lines", "short"]

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 44, 54
COLOURS = ("#2563a8", "#c2571a", "#2f8f4e", "#8a4fa3", "#666666", "#b8860b")
BAR, GAP = 15, 12
NAME_WIDTH = 150
Point = tuple[float, float]


def short(value: float) -> str:
    """`0.5`, `30`, `1,000`, `100k`, `2M`."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    if value >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def lines(
    title: str,
    x_title: str,
    y_title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """One line per series, its points marked. `ticks` are values of x and their words; without, what fits the axis.

    A linear y axis begins at 0.
    """
    points = [point for found in series.values() for point in found]
    if not points:
        raise ValueError(f"{title}: nothing to draw")
    xs = _Axis([x for x, _ in points], log=log_x, first=LEFT, last=WIDTH - RIGHT, from_zero=False)
    ys = _Axis([y for _, y in points], log=log_y, first=HEIGHT - BOTTOM, last=TOP, from_zero=True)
    words = ticks if ticks is not None else {value: short(value) for value in xs.ticks()}
    parts = [_text(LEFT, 20, title, size=14, weight="bold")]
    for value in ys.ticks():
        y = ys.place(value)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"), _text(LEFT - 6, y + 4, short(value), anchor="end")]
    for value, word in words.items():
        x = xs.place(value)
        parts += [_line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "#444444")]
        parts += [_text(x, HEIGHT - BOTTOM + 17, word, anchor="middle")]
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#444444"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_title, anchor="middle"))
    parts.append(_text(16, (TOP + HEIGHT - BOTTOM) / 2, y_title, anchor="middle", turned=True))
    legend = float(LEFT)
    for number, (name, found) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{xs.place(x):.1f},{ys.place(y):.1f}" for x, y in found)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{xs.place(x):.1f}" cy="{ys.place(y):.1f}" r="3" fill="{colour}"/>' for x, y in found]
        parts.append(f'<rect x="{legend:.1f}" y="29" width="9" height="9" fill="{colour}"/>')
        parts.append(_text(legend + 13, 37, name))
        legend += 28 + 6.4 * len(name)
    return _svg(WIDTH, HEIGHT, parts)


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Horizontal bars on a logarithmic axis: groups one below the other, each bar with its name and its value."""
    values = [value for found in groups.values() for value in found.values()]
    if not values or min(values) <= 0:
        raise ValueError(f"{title}: expected values above 0")
    start = LEFT + NAME_WIDTH
    axis = _Axis(values, log=True, first=start, last=WIDTH - 70, from_zero=False)
    parts = [_text(8, 20, f"{title} ({unit})", size=14, weight="bold")]
    y = TOP
    kinds = list(dict.fromkeys(kind for found in groups.values() for kind in found))
    for name, found in groups.items():
        parts.append(_text(8, y + BAR - 4, name, weight="bold"))
        for kind, value in found.items():
            width = max(1.0, axis.place(value) - start)
            colour = COLOURS[kinds.index(kind) % len(COLOURS)]
            parts.append(_text(start - 6, y + BAR - 4, kind, anchor="end"))
            parts.append(f'<rect x="{start}" y="{y}" width="{width:.1f}" height="{BAR - 3}" fill="{colour}"/>')
            parts.append(_text(start + width + 5, y + BAR - 4, short(value)))
            y += BAR
        y += GAP
    return _svg(WIDTH, y + 6, parts)


class _Axis:
    """Values to places. A logarithmic one goes from power of ten to power of ten."""

    def __init__(self, values: Sequence[float], *, log: bool, first: float, last: float, from_zero: bool) -> None:
        self._log = log
        self._first, self._last = first, last
        low, high = min(values), max(values)
        if log:
            low, high = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
            self._step = 1.0
        else:
            low = 0.0 if from_zero else low
            self._step = _round_step((high - low) / 5)
            if from_zero:
                high = math.ceil(high / self._step - 1e-9) * self._step
        self._low, self._high = low, high if high > low else low + 1

    def place(self, value: float) -> float:
        """In pixels."""
        position = math.log10(value) if self._log else value
        return self._first + (self._last - self._first) * (position - self._low) / (self._high - self._low)

    def ticks(self) -> list[float]:
        """Values to mark."""
        if self._log:
            return [10.0**power for power in range(int(self._low), int(self._high) + 1)]
        count = int((self._high - self._low) / self._step + 1e-9)
        return [self._low + number * self._step for number in range(count + 1)]


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if step <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(step))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9)))


def _text(
    x: float, y: float, words: str, *, size: int = 11, anchor: str = "start", weight: str = "normal", turned: bool = False
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    attributes = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"{turn}'
    return f"<text {attributes}>{escape(words)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" fill="#222222">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>\n"])
