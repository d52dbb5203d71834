"""Rounds and figures for the live table."""

from __future__ import annotations

from typing import Any

from hpc.controller import Round
from hpc.dispatch import Submitted
from hpc.monitor import Snapshot
from hpc.policy import Decision
from jobs.progress import DeviceSeconds, Progress

__all__ = ["round_of", "snapshot"]

NOTHING = Snapshot(
    tars=4, done=0, quarantined=0, clips=0, errors=0, audio_seconds=0.0, encoded_seconds=0.0,
    bytes_done=0, bytes_total=4_000_000, running={}, pending=0, submitted=0, waiting=0, reasons={}, unknown=0, excluded=(),
    device_seconds=DeviceSeconds(), on_gpu=False,
)  # fmt: skip


def snapshot(**values: object) -> Snapshot:
    """A run of four tars."""
    return Snapshot(**{**{name: getattr(NOTHING, name) for name in NOTHING.__struct_fields__}, **values})


def round_of(*reports: Progress, **values: Any) -> Round:
    """A round that sees these workers of submission 1, all of them running."""
    seen: dict[str, Any] = {
        "decision": Decision(outcome="running", submit=(), quarantine={}, exclude={}),
        "states": [],
        "running": {},
        "unknown": (),
        "reports": {1: dict(enumerate(reports))},
        "submitted": Submitted(),
        "audio_seconds": 0.0,
        "bytes_left": 0,
        "at_work": frozenset((1, slot) for slot in range(len(reports))),
    }
    return Round(**{**seen, **values})
