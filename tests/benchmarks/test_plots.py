from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.plots import bars, lines, short


def elements(svg: str, kind: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(svg).iter() if element.tag.endswith("}" + kind)]


def number(element: ET.Element, name: str) -> float:
    value = element.get(name)
    assert value is not None
    return float(value)


def test_points_stand_where_their_values_are() -> None:
    """On a linear axis from 0, a value twice as large stands twice as high; on a logarithmic one tenfold is one step."""
    svg = lines("speed", "threads", "rate", {"flac": [(1, 100), (2, 200), (4, 300)]})
    heights = [number(circle, "cy") for circle in elements(svg, "circle")]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    svg = lines("speed", "clips", "rate", {"flac": [(10, 1), (100, 1), (1000, 1)]}, log_x=True)
    places = [number(circle, "cx") for circle in elements(svg, "circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)


def test_all_is_within_the_picture() -> None:
    """Points, words and bars."""
    svg = lines("t", "x", "y", {"a": [(0.5, 3), (10800, 7000)], "b": [(30, 12)]}, log_x=True, log_y=True)
    for circle in elements(svg, "circle"):
        assert 0 <= number(circle, "cx") <= 640
        assert 0 <= number(circle, "cy") <= 340
    svg = bars("speed", "s/s", {"higgs": {"fp32": 812.0, "usual way": 9.5}, "mimi": {"fp32": 30000.0}})
    for bar in elements(svg, "rect"):
        assert float(bar.get("x", "0")) + number(bar, "width") <= 640


def test_words_are_escaped() -> None:
    """A `<` in a title would make it no XML."""
    assert "a < b & c" in [element.text for element in elements(bars("x", "y", {"a < b & c": {"d": 1.0}}), "text")]


def test_nothing_to_draw_is_an_error() -> None:
    """Rather than an empty picture that looks measured."""
    with pytest.raises(ValueError, match="nothing"):
        lines("t", "x", "y", {})
    with pytest.raises(ValueError, match="above 0"):
        bars("t", "x", {"a": {"b": 0.0}})


@pytest.mark.parametrize(
    ("value", "word"), [(0.5, "0.5"), (30, "30"), (812.4, "812"), (1600, "1,600"), (100_000, "100k"), (2e6, "2M")]
)
def test_figures_are_short(value: float, word: str) -> None:
    """Three figures are enough for an axis."""
    assert short(value) == word
