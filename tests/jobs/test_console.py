"""jobs/console.py: rates and times as people read them."""

from __future__ import annotations

from jobs.console import clock_time, describe_rate, eta_seconds


def test_words() -> None:
    """Rates, times and the time that is left, as people read them."""
    assert describe_rate(4500, 36) == "1.25 audio-h at 125 audio-h/h"
    assert describe_rate(0, 0) == "0.00 audio-h at 0 audio-h/h"
    assert clock_time(3723.4) == "1:02:03"
    assert clock_time(None) == "?"
    assert eta_seconds(50, 100, 200, 10) == 20
    assert eta_seconds(100, 100, 200, 10) is None
    assert eta_seconds(0, 300, 200, 10) == 0
