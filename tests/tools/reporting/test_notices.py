"""tools/reporting/notices.py: the one sentence on top, and what needs attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.made_facts import facts, task

from hpc.launch import Launch
from jobs.progress import DeviceSeconds
from tools.reporting.facts import RunFacts, Totals
from tools.reporting.notices import headline, notices
from tools.reporting.summary import forecast
from tools.reporting.token_totals import FieldTokens, TokenTotals


def state_of(run: RunFacts) -> str:
    return headline(run, forecast(run))[0]


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (facts(), "empty"),
        (facts("committed"), "finished"),
        (facts("committed", "quarantined", outcome="quarantined"), "quarantined"),
        (facts("committed", "partial", tasks=[task(-60, 0, 600, end="running")]), "running"),
        (facts("committed", "partial", stopped="it was cancelled"), "stuck"),
        (facts("committed", "partial", tasks=[task(-60, 0, 600, end="silent")]), "idle"),
    ],
)
def test_headline(run: RunFacts, state: str) -> None:
    """Each state of a run has its word."""
    assert state_of(run) == state


def words(state: str = "finished", **settings: Any) -> list[tuple[str, str]]:
    return [(notice.severity, notice.text) for notice in notices(facts("committed", **settings), state)]


def test_nothing_to_do() -> None:
    """A clean run says so."""
    assert words() == [("good", "Nothing needs attention.")]


def test_the_worst_first_and_each_command_once() -> None:
    """Quarantine and unreadable files before nodes, errors and damage; a command is not repeated."""
    found = notices(
        facts(
            "committed",
            "quarantined",
            quarantine={"b": "cut"},
            exclude={"n3": "4 tries failed"},
            totals=Totals(clips=1000, audio_seconds=1.0, errors={"decode": 5}, damaged_clips=1, damaged_seconds=2.0),
            problems=["x.json: not JSON"],
        ),
        "quarantined",
    )
    assert [notice.severity for notice in found] == ["bad", "bad", "warn", "info", "info"]
    commands = [notice.command for notice in found if notice.command]
    assert len(set(commands)) == len(commands) == 2
    assert "--retry-quarantined" in commands[0]


def test_commands_are_quoted() -> None:
    """The path of a run may have spaces and worse."""
    launch = Launch(cluster="slurm", device="cpu", gpus_per_node=0)
    found = notices(facts("not_started", output_dir="/r/my run; rm -rf", launch=launch), "idle")
    assert found[0].command == "python -m hpc.resume --output-dir '/r/my run; rm -rf'"


def test_a_run_that_nobody_launched() -> None:
    """Tars tokenized by hand: there is nothing to resume."""
    assert [notice.command for notice in notices(facts("not_started"), "idle")] == [""]


def test_gpus_that_wait() -> None:
    """More cores are advised for GPUs alone, and only if they waited for long."""
    gpu = Launch(cluster="slurm", device="cuda", gpus_per_node=1)
    waiting = [task(0, 60, 1.0, device=DeviceSeconds(90, 10, 0))]
    assert "--cpus-per-gpu" in words(launch=gpu, tasks=waiting)[0][1]
    assert words(tasks=waiting) == [("good", "Nothing needs attention.")]


def test_tokens_that_collapse() -> None:
    """A codebook of one code, frames that never change and mixed versions are named."""
    collapsed = FieldTokens("tokens", np.array([[0, 900, 0, 0]]), np.array([800]), items=900, still=500, still_clips=2)
    totals = Totals(clips=1, audio_seconds=1.0, versions={(("numpy", "1"),): 1, (("numpy", "2"),): 1})
    found = words(tokens=TokenTotals(1, 1, 1, keys={"tokens": collapsed}), totals=totals)
    assert [severity for severity, _ in found] == ["bad", "warn", "warn", "info"]
    assert "low entropy in codebook 0" in found[0][1]
