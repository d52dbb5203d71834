"""tools/common/byte_progress.py: what people see of work that goes through bytes."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from tools.common.byte_progress import ByteProgress


def test_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal a line comes every half minute, with the rate of this attempt alone and the time that is left."""
    moment = [0.0]
    progress = ByteProgress("all.jsonl", 10_000_000_000, clock=lambda: moment[0])
    with caplog.at_level(logging.INFO, "tar2tokens"), progress.on_terminal():
        progress(4_000_000_000, before=True)
        moment[0] = 29.0
        progress(1_000_000_000)
        assert caplog.messages == []
        moment[0] = 40.0
        progress(1_000_000_000)
        progress(0)
    assert caplog.messages == ["all.jsonl: 6,000 of 10,000 MB, 50 MB/s, ETA 0:01:20"]


def test_a_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On a terminal a bar shows how far it is, and no log lines come between."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    moment = iter(range(0, 10_000, 100))
    progress = ByteProgress("all.jsonl", 1000, clock=lambda: next(moment))
    with caplog.at_level(logging.INFO, "tar2tokens"), progress.on_terminal():
        progress(250, before=True)
        progress(250)
        progress(500)
    assert "all.jsonl: 100%" in screen.getvalue()
    assert caplog.messages == []
