"""Draws figures with matplotlib: one function for the inline SVG of the page, and for PNG and SVG files.

Each colour of PALETTE occurs once, so it can be replaced by a CSS variable in a figure's SVG: the page then has it in light
and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words, is_installed

if TYPE_CHECKING:  # matplotlib is an extra
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "boxes",
    "inline_svg",
    "legend",
    "new_figure",
    "png",
    "require_extra",
    "svg_file",
    "time_axis",
    "to_days",
]

PALETTE = {
    "surface": "#fffffe",
    "ink": "#1c2434",
    "muted": "#566074",
    "grid": "#e2e6ee",
    "blue": "#2a62c8",
    "teal": "#0d8577",
    "orange": "#c66a12",
    "red": "#c9304a",
    "violet": "#7a50c0",
    "grey": "#98a1b1",
    "sky": "#86aeea",
    "pale": "#cfdcf5",
}
"""The light theme; template.css has both themes under the same names."""
PACKAGES = ("jinja2", "matplotlib")
WIDTH_INCHES = 9.0
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALETTE["grid"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": PALETTE["muted"],
    "axes.labelsize": 9.0,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9.0,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.labelcolor": PALETTE["ink"],
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "tar2tokens",
    "text.color": PALETTE["ink"],
    "text.parse_math": False,  # a name may have two dollar signs
    "xtick.color": PALETTE["grid"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.color": PALETTE["grid"],
    "ytick.labelcolor": PALETTE["muted"],
    "ytick.major.size": 0.0,
}
FONT = re.compile(r"font(?:-family)?: ?[^;\"]*(?:sans-serif|DejaVu Sans|Verdana)[^;\"]*")
SIZE = re.compile(r"font: ([\d.]+)px")
PATH = re.compile(r' d="[^"]+"')
LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
IDENTIFIER = re.compile(r' id="([^"]+)"')


def require_extra() -> None:
    """Raise UsageError if a package of the extra is missing."""
    if missing := [package for package in PACKAGES if not is_installed(package)]:
        raise UsageError(f"a report needs {' and '.join(missing)}: {install_words('report')}")


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


@contextmanager
def new_figure(
    height: float, rows: int = 1, *, ratios: Sequence[float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure `height` inches high with `rows` axes below one another, to draw on within the block."""
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        grid = {"height_ratios": ratios} if ratios is not None else None
        axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw=grid)
        yield figure, [row[0] for row in axes]


def boxes(axes: Axes, rectangles: Iterable[tuple[float, float, float, float]], colour: str, label: str = "") -> None:
    """Draw (x, y, width, height) in one element, however many there are. The limits of the axes stay."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners: list[tuple[float, float]] = []
    codes: list[Any] = []
    for x, y, width, height in rectangles:
        corners += [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    if corners:
        patch = PathPatch(Path(corners, codes), facecolor=PALETTE[colour], label=label or None, linewidth=0)
        patch.set_snap(False)
        axes.add_artist(patch)


def legend(axes: Axes, columns: int = 6) -> None:
    """A legend above the axes, left aligned."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, handlelength=1.0,
            handleheight=1.0, columnspacing=1.4, handletextpad=0.5,
        )  # fmt: skip


def to_days(seconds: Any) -> Any:  # noqa: ANN401
    """Seconds since the epoch -> matplotlib's dates; scalars or arrays."""
    return seconds / 86400.0


def time_axis(axes: Axes) -> None:
    """Label x, in `to_days`, with times of this machine's zone."""
    from matplotlib import dates

    make_locator: Any = dates.AutoDateLocator
    make_formatter: Any = dates.ConciseDateFormatter
    zone = datetime.now(timezone.utc).astimezone().tzinfo
    locator = make_locator(tz=zone, minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(make_formatter(locator, tz=zone))


def svg_file(figure: Figure) -> str:
    """The figure as the text of an SVG file."""
    target = io.StringIO()
    with _styled():
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return target.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG, on white."""
    target = io.BytesIO()
    with _styled():
        figure.savefig(target, format="png", dpi=160, facecolor=PALETTE["surface"])
    return target.getvalue()


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element of a page: fonts are the page's, colours its variables, ids begin with `name`."""
    from html import escape

    svg = svg_file(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    for role, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{role})")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = IDENTIFIER.sub(lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = SIZE.sub(r"font-size: \1px; font: \1px", svg)
    svg = FONT.sub("font-family: inherit", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = PATH.sub(lambda match: LONG_NUMBER.sub(r"\1", match[0]), svg)
    head = re.search(r'viewBox="([^"]+)"', svg)
    if head is None:
        raise AssertionError("matplotlib writes a viewBox")
    body = svg[svg.index(">") + 1 :]
    return (
        f'<svg viewBox="{head[1]}" role="img" aria-label="{escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )
