"""tools/reporting/gather.py: a run in any state, and of any version, becomes facts; what cannot be read is named."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.committed_runs import damaged_records, make_run, some_records, tar_of
from support.make_old_run import ARCHIVE, FOLDER
from support.reported_runs import SimulatedRun
from support.small_run import mulaw_spec, small_tar, tokenize

from audio_tokenizers.errors import UsageError
from hpc.run import Run, RunState
from jobs.spec import freeze_spec
from jobs.taste.training import Training
from tools.reporting.facts import RunFacts
from tools.reporting.gather import gather
from tools.reporting.page import render

NOW = 1_900_000_000.0


def look(output: Path) -> RunFacts:
    facts, states = gather(Run(output), NOW)
    assert len(states) == len(facts.tars)
    return facts


def page_of(facts: RunFacts) -> str:
    page, plots = render(facts)
    assert all(plot.figure is not None or plot.missing for plot in plots)
    return page


def test_no_run(tmp_path: Path) -> None:
    """A folder that is none is refused, with what to do."""
    with pytest.raises(UsageError, match="no run here: expected its folder"):
        gather(Run(tmp_path), NOW)


def test_a_training(tmp_path: Path) -> None:
    """A folder in which a model is trained has no tokens to report on."""
    run = Run(tmp_path)
    run.folder.mkdir()
    run.write_state(RunState(training=Training(settings={}, data=("a",))))
    with pytest.raises(UsageError, match="expected a run of tokens, found a training"):
        gather(run, NOW)


def test_a_run_without_tars(tmp_path: Path) -> None:
    """A run that has only been begun has a page."""
    freeze_spec(tmp_path, mulaw_spec())
    facts = look(tmp_path)
    assert (len(facts.tars), facts.problems, facts.outcome) == (0, [], "")
    assert "This run has no tars yet." in page_of(facts)


def test_errors_and_damage(tmp_path: Path) -> None:
    """Counts of committed tars by kind, with examples; the command that tries error clips again."""
    make_run(tmp_path / "tokens", {"1": some_records(1), "2": damaged_records(2), "3": None})
    facts = look(tmp_path / "tokens")
    assert (facts.tars.count("committed"), facts.tars.count("not_started")) == (2, 1)
    assert facts.totals.errors == {"decode": 2}
    assert (facts.totals.error_tars, facts.totals.damaged_clips) == (2, 2)
    assert [each.audio_file for each in facts.error_examples["decode"]] == ["bad.wav", "bad.wav"]
    assert len(facts.damaged_examples) == 2
    assert any("--retry-errors" in line for line in facts.commands)
    assert np.isfinite(facts.tars.committed_at[:2]).all()


def test_a_run_of_many_tasks(tmp_path: Path) -> None:
    """Deaths, a node that was excluded, and reasons of failed tries, as a cluster leaves them."""
    facts = look(SimulatedRun(tmp_path / "tokens", 120, nodes=4, trouble=0.2, lines=False).write().output_dir)
    assert facts.tars.count("committed") == 120
    assert {"died", "finished", "stopped"} == {task.end for task in facts.tasks}
    assert list(facts.exclude) == ["n03"] == [node for _, node in facts.exclusions]
    assert [each.nodes for each in facts.failures if each.reason.startswith("CUDA error")] == [("n03",)]
    assert len(facts.slowest) == 15
    assert facts.slowest[0].wall_seconds == facts.tars.wall_seconds.max()


def test_tokens_made_by_hand(tmp_path: Path) -> None:
    """Tars of jobs.tokenize_tar, without any task: tokens are counted, and plots of tasks say why they are not there."""
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path / "tokens")
    facts = look(tmp_path / "tokens")
    assert facts.tars.count("committed") == 1
    assert (facts.tokens.tars, list(facts.tokens.sequences)) == (1, ["tokens"])
    assert facts.tokens.sequences["tokens"].items > 0


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    """A manifest, the state, a report and the list that are garbage are each named, and the page is made of the rest."""
    output = SimulatedRun(tmp_path / "tokens", 12, nodes=4, trouble=0.0, lines=False).write().output_dir
    (output / ".run" / "manifests" / "speech-000000.json").write_bytes(b"\xff{")
    (output / ".run" / "run.json").write_text("[")
    (output / ".run" / "submissions" / "0001" / "ended.json").write_text("{}")
    (output / ".run" / "history.jsonl").write_text('{"exclude":\n[]\n{"exclude":{"n":"x"},"at":"never"}\n')
    (output / ".run" / "spec.yaml").write_text("a: [")
    facts = look(output)
    assert facts.tars.count("invalid") == 1
    assert facts.spec is None
    assert {"run.json", "ended.json", "spec.yaml"} <= {
        name for name in ("run.json", "ended.json", "spec.yaml") if any(name in problem for problem in facts.problems)
    }
    assert "run.json" in page_of(facts)
    (output / ".run" / "tars.txt").write_text("no tab")
    assert any("tars.txt" in problem for problem in look(output).problems)


def test_without_tars(tmp_path: Path) -> None:
    """Committed tars may be gone; a tar that is to be tokenized and is not there is named."""
    output = tmp_path / "tokens"
    make_run(output, {"1": some_records(1), "2": None})
    shutil.rmtree(tar_of(output, "1").parent)
    facts = look(output)
    assert facts.tars.count("committed") == 1
    assert list(facts.invalid) == ["2"]


@pytest.mark.slow
def test_a_run_of_an_earlier_version(tmp_path: Path) -> None:
    """Its manifests have no histograms, and its attempts were killed: it has a page, which says that nothing was counted."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    facts = look(tmp_path / FOLDER.name / "tokens")
    assert (facts.tars.count("committed"), len(facts.tars)) == (1, 3)
    assert facts.problems == []
    assert (facts.tokens.not_counted, facts.tokens.tars) == (["a"], 0)
    assert "Not counted" in page_of(facts)


def test_tokens_of_a_large_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some tars' histograms are read, from all over the list."""
    monkeypatch.setattr("tools.reporting.gather.SAMPLE", 5)
    make_run(tmp_path / "tokens", {f"{number:03}": some_records(number) for number in range(100)})
    names = look(tmp_path / "tokens").tokens.not_counted
    assert names == [f"{number:03}" for number in range(0, 100, 16)]


def test_manifests_are_not_kept(tmp_path: Path) -> None:
    """The states that are left are small: 100,000 manifests would take hundreds of megabytes."""
    make_run(tmp_path / "tokens", {str(number): some_records(number) for number in range(4)})
    _, states = gather(Run(tmp_path / "tokens"), NOW)
    assert sum(state.manifest is not None for state in states) == 1
    assert msgspec.json.encode([state.name for state in states]) == b'["0","1","2","3"]'


def test_invalid_tars_among_many_that_are_gone(tmp_path: Path) -> None:
    """Those that need a hand come first, and the page says how many others are not shown."""
    output = tmp_path / "tokens"
    gone = [f"{number:02}" for number in range(30)]
    make_run(output, {**dict.fromkeys(gone), "x": some_records(1)})
    for name in gone:
        tar_of(output, name).unlink()
    Run(output).paths("x").manifest.write_text("{")
    facts = look(output)
    assert (next(iter(facts.invalid)), len(facts.invalid), facts.invalid_tars) == ("x", 20, 31)
    assert "The first 20 of 31." in page_of(facts)
