"""A run's figures in TensorBoard: a hook for the events of tar2tokens (docs/monitoring.md says how to install it).

Each run writes to a folder of its own below $TAR2TOKENS_TENSORBOARD, by default ~/tar2tokens-tensorboard. Needs tensorboard.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboard.summary import Writer

FIGURES = ("committed", "quarantined", "clips", "errors", "tasks_running", "tasks_pending", "tars_waiting", "seconds")
HOURS = ("audio_seconds", "encoded_seconds")

_writers: dict[str, Writer] = {}


def on_event(event: Mapping[str, Any]) -> None:
    """Draw the figures of each round, over the seconds since 1970: a restarted controller continues the curves."""
    if event["event"] != "round":
        return
    writer = _writer(event["run"])
    moment = datetime.fromisoformat(event["time"]).timestamp()
    for name, value in _figures(event).items():
        writer.add_scalar(name, value, step=int(moment), wall_time=moment)
    writer.flush()


def _figures(event: Mapping[str, Any]) -> dict[str, float]:
    if event["training"] is not None:
        return {f"training/{name}": value for name, value in event["training"].items() if value is not None}
    hours = {f"run/{name.removesuffix('_seconds')}_hours": event[name] / 3600 for name in HOURS}
    return {f"run/{name}": event[name] for name in FIGURES} | hours


def _writer(run: str) -> Writer:
    if run not in _writers:
        folder = os.environ.get("TAR2TOKENS_TENSORBOARD") or Path.home() / "tar2tokens-tensorboard"
        _writers[run] = Writer(str(Path(folder) / run))
    return _writers[run]
