"""tools/reporting/notices.py: the one sentence on top, and what needs attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.made_facts import facts, task

from audio_tokenizers.base import Field
from hpc.launch import Launch
from jobs.progress import DeviceSeconds
from jobs.sequence_counter import SequenceCounter
from jobs.token_statistics import SequenceStatistics, TokenStatistics
from tools.checking.token_totals import TokenTotals
from tools.reporting.facts import RunFacts, SubmissionFacts, Totals
from tools.reporting.notices import headline, notices
from tools.reporting.summary import forecast


def submission() -> SubmissionFacts:
    """One array task in the queue, as far as is known."""
    return SubmissionFacts(1, "7", "submitted", "", 1, 1, 1, 0.0, {}, 0)


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
        (facts("committed", "partial", submissions=[submission()]), "waiting"),
        (facts("committed", "partial", submissions=[submission()], tasks=[task(-900, -800, end="silent")]), "idle"),
        (facts("committed", "partial", tasks=[task(-60, 0, 600, end="silent")]), "idle"),
    ],
)
def test_headline(run: RunFacts, state: str) -> None:
    """Each state of a run has its word."""
    assert state_of(run) == state


def test_a_list_that_cannot_be_read() -> None:
    """A run whose list is damaged is not called one that has not begun."""
    assert "cannot be read" in headline(facts(problems=["tars.txt: cut"]), forecast(facts()))[1]


def words(state: str = "finished", **settings: Any) -> list[tuple[str, str]]:
    return [(notice.severity, notice.text) for notice in notices(facts("committed", **settings), state)]


def test_nothing_to_do() -> None:
    """A clean run says so."""
    assert words() == [("good", "Nothing needs attention.")]


def test_what_check_progress_notes() -> None:
    """Tars and texts from which nothing came are named here, too; clips that were not wanted are no warning."""
    found = words(totals=Totals(sidecar_faults=2, tars_without_clips=1, outside_subset=7))
    assert found == [
        ("warn", "2 sidecars could not be read, or not all of it: metadata.sidecar_errors says why."),
        ("warn", "1 committed tar without any clip."),
        ("info", "7 clips outside of --subset-ratio, which have no lines."),
    ]


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
    """What check_progress --tokens warns of, and statistics that are damaged, with that command; mixed versions, too."""
    field = Field(name="tokens", form="codes", width=1, codebook_size=256, samples_per_item=40.0)
    counter = SequenceCounter(field, 1000)
    counter.add(np.full((1, 9000), 7), 0, "a.wav")
    statistics = TokenStatistics(clips=1, audio_seconds=360.0, sequences={"tokens": SequenceStatistics.of(counter, 1000)})
    tokens = TokenTotals(damaged={"b": "cut"})
    tokens.add("a", statistics)
    totals = Totals(clips=1, audio_seconds=1.0, versions={(("numpy", "1"),): 1, (("numpy", "2"),): 1})
    found = notices(facts("committed", tokens=tokens, totals=totals), "finished")
    assert {notice.severity for notice in found} == {"warn"}
    assert "--tokens" in found[0].command
    said = " ".join(notice.text for notice in found)
    assert "of b: cut" in said
    assert "different sets of package versions" in said
    assert "tokens: " in said
