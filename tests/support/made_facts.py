"""Facts of runs, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.progress import DeviceSeconds
from tools.reporting.facts import STATES, RunFacts, Tars, Task, Totals

NOW = 1_000_000.0


def task(started: float, ended: float, audio_seconds: float = 0.0, **settings: Any) -> Task:
    """A task of submission 1, by seconds since NOW."""
    common = {"submission": 1, "element": 0, "slot": 0, "node": "n1", "gpu": "0", "end": "finished", "tries": 1}
    device = settings.pop("device", DeviceSeconds())
    return Task(
        **{**common, **settings}, started=NOW + started, ended=NOW + ended, audio_seconds=audio_seconds, device=device
    )


def tars(*states: str, audio: float = 3600.0, size: float = 1e6) -> Tars:
    """Tars in these states, committed ones with `audio` seconds, one a minute up to NOW."""
    codes = np.array([STATES.index(state) for state in states], np.uint8)
    committed = codes == 0
    at = np.where(committed, NOW - 60.0 * np.arange(len(codes))[::-1], np.nan)
    return Tars(codes, audio * committed, 10.0 * committed, np.full(len(codes), size), np.zeros(len(codes), np.int64), at)


def facts(*states: str, **settings: Any) -> RunFacts:
    """A run of tars in these states."""
    count = tars(*states)
    totals = settings.pop("totals", Totals(clips=10 * len(states), audio_seconds=float(count.audio_seconds.sum())))
    return RunFacts(**{"output_dir": "/r/tokens", "made_at": NOW, "tars": count, "totals": totals, **settings})
