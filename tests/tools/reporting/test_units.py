"""tools/reporting/units.py: numbers and times as people read them."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from tools.reporting.units import big, clock, duration, hours, number, percent, size


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (1234.4, "1,234"),
        (12.34, "12.3"),
        (80.0, "80"),
        (0.0123, "0.0123"),
        (1.0, "1"),
        (0.00012, "0.0001"),
        (1e-9, "< 0.0001"),
        (float("nan"), "-"),
    ],
)
def test_number(value: float, words: str) -> None:
    """Three significant digits, no zeros at the end, a dash for what is no number."""
    assert number(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(950, "950"), (12_345, "12,345"), (4_500_000, "4.5 M"), (2e9, "2 G"), (0.5, "0.5")]
)
def test_big(value: float, words: str) -> None:
    """Short from a million on."""
    assert big(value) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.00001, "< 0.01 %"), (0.9999, "> 99.9 %"), (0.0123, "1.2 %")],
)
def test_percent(share: float, words: str) -> None:
    """A little is not nothing, and nearly all is not all."""
    assert percent(share) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.01, "< 0.1 s"),
        (0.25, "0.2 s"),
        (45, "45 s"),
        (60, "1 min"),
        (119, "119 s"),
        (600, "10 min"),
        (7200, "2 h"),
        (12_000, "3 h 20 min"),
        (3 * 86400 + 5 * 3600, "3 d 5 h"),
        (float("inf"), "-"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    """Two units at most."""
    assert duration(seconds) == words


def test_hours() -> None:
    """A small run has seconds, not thousandths of an hour."""
    assert [hours(value) for value in (0, 0.01, 1.5, 2809)] == ["0 s", "36 s", "1.5 h", "2,809 h"]


def test_size_and_clock() -> None:
    """Decimal units; a time in the zone that is asked for."""
    assert [size(count) for count in (0, 999, 1_234_000, 5e12, 6e15)] == ["0 B", "999 B", "1.23 MB", "5 TB", "6,000 TB"]
    assert clock(0.0, timezone(timedelta(hours=2))) == "1970-01-01 02:00"
