"""jobs/console.py: rates and times as people read them, and a bar where there is a terminal."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from jobs.console import bar_on_terminal, clock_time, describe_rate, eta_seconds


class Screen(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def screen_for(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Stands for stderr; not a fixture, since pytest sets stderr again before a test is called."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_words() -> None:
    """Rates, times and the time that is left, as people read them."""
    assert describe_rate(4500, 36) == "1.25 audio-h at 125 audio-h/h"
    assert describe_rate(0, 0) == "0.00 audio-h at 0 audio-h/h"
    assert clock_time(3723.4) == "1:02:03"
    assert clock_time(None) == "?"
    assert eta_seconds(50, 100, 200, 10) == 20
    assert eta_seconds(100, 100, 200, 10) is None
    assert eta_seconds(0, 300, 200, 10) == 0


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """The caller writes log lines instead."""
    with bar_on_terminal("x", 10) as bar:
        assert bar is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("own_rate", [True, False])
def test_a_bar_shows_a_rate_only_where_it_is_right(monkeypatch: pytest.MonkeyPatch, own_rate: bool) -> None:
    """What an earlier attempt has done would make a resumed one look fast."""
    screen = screen_for(monkeypatch)
    with bar_on_terminal("a\x1b[2J", 2000, own_rate=own_rate) as bar:
        assert bar is not None
        bar.update(1000)
    assert "a\\x1b[2J:  50%" in screen.getvalue()
    assert ("B/s" in screen.getvalue()) == own_rate


def test_log_lines_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is logged meanwhile is not torn by the bar, which is drawn again below it."""
    screen = screen_for(monkeypatch)
    log = logging.getLogger("tar2tokens")
    handler = logging.StreamHandler(screen)
    log.addHandler(handler)
    try:
        with bar_on_terminal("x", 10, "tar") as bar:
            assert bar is not None
            log.warning("a line")
    finally:
        log.removeHandler(handler)
    above, line, below = screen.getvalue().partition("a line\n")
    assert line
    assert above.endswith("\r")
    assert "x:   0%" in below


def test_a_brief_bar_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of less than a second shows none."""
    screen = screen_for(monkeypatch)
    with bar_on_terminal("x", None, "file", brief=True) as bar:
        assert bar is not None
        bar.update()
    assert "file" not in screen.getvalue()
