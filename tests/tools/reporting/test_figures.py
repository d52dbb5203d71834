"""tools/reporting/figures.py: figures as SVG of the page, and as files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.figure import Figure

from audio_tokenizers.errors import UsageError
from tools.reporting import figures
from tools.reporting.figures import PALETTE, boxes, inline_svg, legend, new_figure, png, require_extra, svg_file, time_axis


def drawn(label: str = "$x^2$ <b>&") -> Figure:
    with new_figure(2.0) as (figure, (axes,)):
        boxes(axes, [(k, 0, 0.5, 1) for k in range(500)], "teal", label)
        axes.set_xlim(20_000, 20_001)
        time_axis(axes)
        legend(axes)
    return figure


def test_inline_svg() -> None:
    """Well-formed, in the page's colours and fonts, many boxes in one element, text as text, ids of its own."""
    svg = inline_svg(drawn(), "my-plot", 'a "label" <b>')
    root = ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert root.attrib["aria-label"] == 'a "label" <b>'
    assert "$x^2$ <b>&" in "".join(root.itertext())
    assert "var(--teal)" in svg
    assert not any(colour in svg for colour in PALETTE.values())
    assert "DejaVu" not in svg
    assert all(name.startswith("my-plot-") for name in re.findall(r' id="([^"]+)"', svg))
    assert set(re.findall(r'url\(#([^)]+)|href="#([^"]+)"', svg)) <= {
        (name, "") for name in re.findall(r' id="([^"]+)"', svg)
    } | {("", name) for name in re.findall(r' id="([^"]+)"', svg)}
    assert svg.count("<path") < 60
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)


def test_files() -> None:
    """The same figure as an SVG file with its own colours, and as a PNG."""
    figure = drawn()
    ET.fromstring(svg_file(figure))
    assert PALETTE["teal"] in svg_file(figure)
    assert png(figure).startswith(b"\x89PNG")


def test_no_boxes_draw_nothing() -> None:
    """Where there is nothing of a kind, the legend does not name it."""
    with new_figure(1.0) as (figure, (axes,)):
        boxes(axes, [], "red", "none of these")
        legend(axes)
    assert "none of these" not in svg_file(figure)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message with what to install."""
    monkeypatch.setattr(figures, "PACKAGES", ("jinja2", "no-such-package"))
    with pytest.raises(UsageError, match=r"a report needs no-such-package: pip install -e '\.\[report\]'"):
        require_extra()
