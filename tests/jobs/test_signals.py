"""jobs/signals.py: a stop is remembered, and told once."""

from __future__ import annotations

import signal

import pytest

from jobs.signals import INTERRUPTIONS, StopFlag


def test_deadline() -> None:
    """Before it there is time, from it on there is none; without one there always is."""
    now = [99.0]
    stop = StopFlag(100.0, clock=lambda: now[0])
    assert not stop()
    now[0] = 100.0
    assert stop()
    assert stop.signal is None
    assert not StopFlag()()


def test_first_signal_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """It is remembered and told once; outside of the block the process answers to signals as before."""
    before = signal.getsignal(signal.SIGUSR2)
    stop = StopFlag()
    with stop.on_signals():
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
    assert (stop(), stop.signal, stop.count) == (True, signal.SIGUSR2, 2)
    assert signal.getsignal(signal.SIGUSR2) is before
    assert capfd.readouterr().err == "SIGUSR2: finishing what is in hand\n"


def test_a_watch_is_interrupted_silently(capfd: pytest.CaptureFixture[str]) -> None:
    """It listens to SIGINT and SIGTERM only, and counts them: the second one ends workers at once."""
    untouched = signal.getsignal(signal.SIGUSR2)
    interruption = StopFlag(answer="")
    with interruption.on_signals(INTERRUPTIONS):
        assert signal.getsignal(signal.SIGUSR2) is untouched
        assert not interruption()
        signal.raise_signal(signal.SIGTERM)
        assert interruption.count == 1
        signal.raise_signal(signal.SIGINT)
    assert (interruption(), interruption.signal, interruption.count) == (True, signal.SIGTERM, 2)
    assert capfd.readouterr().err == ""


def test_short_memory() -> None:
    """What the guard says first is kept, and it is not asked again; nor after a signal, which has its own reason."""
    answers = iter(["", "", "memory is short", ""])
    stop = StopFlag(shortage=lambda: next(answers))
    assert [stop() for _ in range(4)] == [False, False, True, True]
    assert stop.shortage == "memory is short"
    stop = StopFlag(shortage=lambda: pytest.fail("asked"))
    with stop.on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert (stop(), stop.shortage) == (True, "")
