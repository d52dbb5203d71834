"""A run's figures in Weights & Biases: a hook for the events of tar2tokens (docs/monitoring.md says how to install it).

Project, entity and mode come from wandb's own variables, such as WANDB_PROJECT. Needs wandb, and `wandb login`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

ALERTS = {"run_stuck": "diagnosis", "tar_quarantined": "reason", "node_excluded": "reason"}
"""Event -> its field that says why."""
NOT_FIGURES = ("event", "version", "id", "time", "run", "outcome", "submitted")


def on_event(event: Mapping[str, Any]) -> None:
    """Log each round and each task that ended, and send an alert where the run is stuck, gives up a tar or avoids a node."""
    run, name = _run(event["run"]), event["event"]
    if name == "run_started":
        run.config.update({"output_dir": event["output_dir"], "tars": event["tars"]}, allow_val_change=True)
    elif name in ("round", "task_ended"):
        run.log({f"{name}/{key}": value for key, value in _flat(event).items()})
    elif name in ALERTS:
        subject = event.get("tar") or event.get("node") or event["run"]
        run.alert(title=f"tar2tokens: {name} {subject}", text=event[ALERTS[name]])


def _flat(event: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The event's figures, those of nested objects as `device_seconds/busy`."""
    found: dict[str, float] = {}
    for key, value in event.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key not in NOT_FIGURES:
            found[prefix + key] = float(value)
    return found


def _run(run: str) -> Any:  # noqa: ANN401 (wandb's Run)
    """The run of the same id: a controller that comes later continues it."""
    return wandb.run or wandb.init(id=f"tar2tokens-{run}", name=f"tar2tokens {run}", resume="allow")
