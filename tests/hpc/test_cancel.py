"""hpc/cancel.py: the run's tasks end, nobody submits more, and no line is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_cluster import Campaign
from support.local_runs import SlowRun, task_pids
from support.runs import call, lines_of, wait_for

from hpc.cancel import cancel
from hpc.slurm import SlurmCluster


def test_nothing_to_cancel(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no run, that is said, and none is made."""
    assert call(cancel, "--output-dir", "none") == 2
    assert "no run here yet" in capsys.readouterr().err
    assert not (here / "none").exists()


def test_tasks_end_and_no_more_are_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All living tasks are told to end, also those whose id was never learned; rounds submit nothing from then on."""
    campaign = Campaign(tmp_path, 3)
    campaign.cluster.array_limit = 2
    campaign.cluster.answers = ["submit", "kept"]
    campaign.controller().round()
    monkeypatch.setattr("hpc.cancel.cluster_of", lambda _launch: campaign.cluster)
    assert call(cancel, "--output-dir", campaign.run.output_dir) == 0
    assert "2 jobs with up to 3 tasks" in capsys.readouterr().out
    assert campaign.cluster.tars() == []
    assert campaign.controller().round().decision.submit == ()
    assert call(cancel, "--output-dir", campaign.run.output_dir) == 0
    assert capsys.readouterr().out.startswith("no task is queued or running; nothing more is submitted until python -m hpc.")


def test_state_is_kept_before_tasks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that begins right after the tasks have ended must not submit them again: first the word, then the deed."""
    campaign = Campaign(tmp_path, 2)
    campaign.controller().round()
    known: list[bool] = []
    monkeypatch.setattr("hpc.cancel.cluster_of", lambda _launch: campaign.cluster)
    monkeypatch.setattr(campaign.cluster, "cancel", lambda _jobs: known.append(campaign.run.read_state().cancelled))
    assert call(cancel, "--output-dir", campaign.run.output_dir) == 0
    assert known == [True]


def test_slurm_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where scancel fails, the command says that tasks may still run, and exits 1; the word that it was cancelled stays."""
    campaign = Campaign(tmp_path, 1)
    campaign.controller().round()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("squeue", "scancel"):
        (tools / name).write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setattr("hpc.cancel.cluster_of", lambda _launch: SlurmCluster({"PATH": f"{tools}:/bin:/usr/bin"}))
    assert call(cancel, "--output-dir", campaign.run.output_dir) == 1
    assert "Unable to contact slurm controller: tasks may still run; try again" in capsys.readouterr().err
    assert campaign.run.read_state().cancelled


@pytest.mark.slow
def test_one_machine(tmp_path: Path) -> None:
    """Cancelled from another terminal: the workers finish their clips, hpc.submit says why it ends, exit code 4; and
    hpc.submit lets the run go on, to the bytes of an undisturbed one.
    """
    case = SlowRun(tmp_path)
    process = case.start(2)
    wait_for(lambda: lines_of(case.output) >= 2)
    out, err = (cancelling := case.command("hpc.cancel")).communicate()
    assert cancelling.returncode == 0, err
    assert "1 job with up to 2 tasks told to end" in out
    _, err = process.communicate()
    assert process.returncode == 4
    assert "it was cancelled" in err
    assert task_pids(case.output) == []
    assert list((case.output / ".run" / "claims").iterdir()) == []
    kept = lines_of(case.output)
    assert kept >= 2
    case.assert_rerun_completes()
