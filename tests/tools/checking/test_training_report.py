"""tools/checking/training_report.py: what check_progress and failures say of a training, without changing anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import call, read_json, tree
from support.training_campaign import TrainingCampaign, tell_status

from hpc.run import Run
from jobs.taste.status import CHECKPOINT
from tools.check_progress import check_progress
from tools.checking import training_report as module
from tools.checking.training_report import look_at_training
from tools.failures import failures


def test_from_the_first_job_to_the_last_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch, step, checkpoint and task; why it has stopped; and nothing of tasks once it is over."""
    campaign = TrainingCampaign(tmp_path)
    monkeypatch.setattr(module, "cluster_of", lambda *_, **__: campaign.cluster)
    words = ("--output-dir", campaign.run.output_dir)

    def said() -> list[str]:
        before = tree(campaign.run.output_dir)
        assert call(check_progress, *words) == 0
        assert tree(campaign.run.output_dir) == before
        return capsys.readouterr().out.splitlines()

    campaign.round()
    assert said()[1:] == [
        "Progress:              no step of 3 epochs yet",
        "Running:               no task runs; 1 pending (Priority)",
    ]
    campaign.cluster.begin(campaign.job(), 0)
    tell_status(campaign.run.output_dir, epoch=1, step=7, saved=6)
    assert said() == [
        f"Training:              {campaign.run.output_dir}",
        "Progress:              epoch 2 of 3, step 1 of 5 (7 in all)",
        "Checkpoint:            step 6",
        "Running:               1 task runs on n1 (1)",
    ]
    (campaign.run.output_dir / CHECKPOINT).rename(tmp_path / "moved away")
    assert said()[2] == "Checkpoint:            none"
    (tmp_path / "moved away").rename(campaign.run.output_dir / CHECKPOINT)
    assert call(failures, *words) == 0
    assert "nothing failed" in capsys.readouterr().out
    campaign.end("damaged", problem="step 7: the loss is nan")
    campaign.round()
    assert said()[-2] == "Last job:              job 0001 failed for good: step 7: the loss is nan"
    assert said()[-1] == "Stopped:               nothing more is submitted: step 7: the loss is nan"
    assert call(check_progress, *words, "--json") == 0
    report = read_json(capsys.readouterr().out)
    assert (report["finished"], report["stopped"]) == (False, "step 7: the loss is nan")
    assert call(failures, *words) == 1
    told = capsys.readouterr().out
    assert told.startswith("step 7: the loss is nan\nthe end of ")
    assert "last words: step 7" in told
    tell_status(campaign.run.output_dir, epoch=3, step=15, saved=15)
    assert said()[1:] == ["Progress:              3 of 3 epochs done, 15 steps"]


def test_a_training_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What jobs.train_taste trains without hpc is reported too, as far as it tells; options about tars are refused."""
    tell_status(tmp_path / "trained", epoch=1, step=7, saved=6)
    assert call(check_progress, "--output-dir", tmp_path / "trained") == 0
    assert "Progress:              epoch 2 of 3, step 1 of 5 (7 in all)" in capsys.readouterr().out
    assert call(check_progress, "--output-dir", tmp_path / "trained", "--check-validity") == 2
    assert "a training: expected no options about tars" in capsys.readouterr().err


def test_no_training(tmp_path: Path) -> None:
    """A folder of tokens, or none, is no training."""
    assert look_at_training(Run(tmp_path / "nowhere")) is None
