"""tools/rehearsing/forecast.py: ratios and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from tools.rehearsing.forecast import forecast, why_unsure
from tools.rehearsing.results import Figures


def figures(*rates: float, tars: int = 2, size: int = 1000) -> list[Figures]:
    """Excerpts of so many seconds per kilobyte, in turn from each tar."""
    return [Figures(f"{n % tars}.tar", size, rate, 2 * size, 3.0 * size) for n, rate in enumerate(rates)]


def test_equal_excerpts_leave_no_doubt() -> None:
    """The interval is a point, and the ratios are those of the sums."""
    found = forecast(figures(*[5.0] * 10))
    assert [found.seconds.low, found.seconds.value, found.seconds.high] == pytest.approx([0.005] * 3)
    assert (found.output_bytes.value, found.audio_seconds.value) == (2.0, 3.0)
    assert why_unsure(figures(*[5.0] * 10), found) == []


def test_the_interval_holds_the_truth() -> None:
    """Of many samples from one population, about nine of ten intervals hold its mean."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(40):
        found = forecast(figures(*rng.gamma(4, 0.5, 24)))
        assert found.seconds.low < found.seconds.value < found.seconds.high
        held += found.seconds.low <= 0.002 <= found.seconds.high
    assert held >= 32


def test_tars_that_differ_widen_it() -> None:
    """Excerpts of one tar are alike: what matters is how much tars differ."""
    alike, apart = forecast(figures(*[1.0, 1.0] * 8)), forecast(figures(*[0.5, 1.5] * 8))
    assert apart.seconds.value == alike.seconds.value
    assert [apart.seconds.low, apart.seconds.high] == pytest.approx([0.0005, 0.0015])
    assert any("vary by 50 %" in why for why in why_unsure(figures(*[0.5, 1.5] * 8), apart))


def test_large_excerpts_count_more() -> None:
    """Bytes are what the whole list is measured in."""
    some = [Figures("a", 1000, 1.0, 0, 0), Figures("a", 9000, 1.0, 0, 0)]
    assert forecast(some).seconds.value == 2 / 10_000


def test_small_samples_are_called_so() -> None:
    """Each reason by itself; a sample without bytes gives no forecast at all."""
    few = figures(1.0, 1.0, tars=1)
    assert why_unsure(few, forecast(few)) == [
        "the sample is of one tar, and tars differ",
        "2 excerpts are few: expected 8",
        "the sample took 2.0 s: expected 10 s",
    ]
    with pytest.raises(ValueError, match="with bytes"):
        forecast([])


def test_the_same_figures_give_the_same_interval() -> None:
    """Two users of one seed see the same."""
    some = figures(*np.random.default_rng(3).uniform(1, 2, 12))
    assert forecast(some, 5) == forecast(some, 5) != forecast(some, 6)
