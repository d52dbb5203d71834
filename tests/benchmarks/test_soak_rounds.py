"""benchmarks/soak_rounds.py: faults and mendings come in turn, also while Slurm's controller is away."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.real_cluster import CommandError

from benchmarks.soak_rounds import Soak


def test_whoever_waits_for_the_controller_keeps_nobody_from_starting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command takes longer to give up than the pause until it is tried again; the mending that helps has its turn."""
    lab: Any = SimpleNamespace(cluster=None, run=SimpleNamespace(folder=tmp_path))
    soak, clock, done = Soak(lab, []), [0.0], list[str]()
    monkeypatch.setattr(soak, "_now", lambda: clock[0])

    def ask(name: str) -> None:
        if "controller" not in done:
            clock[0] += 9.0
            raise CommandError("no answer")
        done.append(name)

    for name in ("a", "b", "c"):
        soak._at(soak._strikes, 0.0, partial(ask, name))
    soak._at(soak._mends, 5.0, lambda: done.append("controller"))
    for _ in range(9):
        soak._act(soak._mends)
        soak._act(soak._strikes)
        clock[0] += 1.0
    assert done == ["controller", "b", "c", "a"]
