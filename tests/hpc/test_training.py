"""hpc/training.py: a training under the controller: chained to its last epoch, tried again, or stopped with its message."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.training_campaign import TrainingCampaign, tell_status

from hpc.launch import Launch
from hpc.rounds import finish
from hpc.training import ranks_of
from jobs.claims import Claim, process_start
from jobs.fileops import FileOps, write_if_absent
from jobs.progress import Ending


def test_a_chain_until_the_last_epoch(tmp_path: Path) -> None:
    """One job at a time, each after the one before has yielded to its time limit, and none after the last epoch."""
    campaign = TrainingCampaign(tmp_path)
    assert campaign.round().decision.outcome == "running"
    plan = campaign.job().plan
    assert (plan.elements, plan.ranks, plan.training is not None) == (1, 2, True)
    assert campaign.round().submitted.submissions == (), "it lives"
    for saved in (10, 20, 30, 40):  # more than any limit on tries
        tell_status(campaign.run.output_dir, epoch=1, step=saved, saved=saved)
        campaign.end("yielded", gained=10, how="COMPLETED")
        seen = campaign.round()
        assert seen.decision.submit == ("training",)
        assert seen.training == f"epoch 2 of 3, step 1 of 5 ({saved} in all)"
    tell_status(campaign.run.output_dir, epoch=3, step=50, saved=50)
    campaign.end("committed", gained=10, how="COMPLETED")
    seen = campaign.round()
    assert (seen.decision.outcome, seen.submitted.submissions) == ("finished", ())
    assert seen.training == "3 of 3 epochs done, 50 steps"


@pytest.mark.parametrize("how", ["NODE_FAIL", "PREEMPTED", "CANCELLED", "TIMEOUT"])
def test_what_the_site_takes_away_costs_nothing(tmp_path: Path, how: str) -> None:
    """A node that dies, a preemption, a cancelled job and a time limit, with steps saved before: the next job follows."""
    campaign = TrainingCampaign(tmp_path)
    campaign.round()
    for saved in range(1, 8):
        tell_status(campaign.run.output_dir, step=saved, saved=saved)
        campaign.end("working", gained=1, how=how)
        seen = campaign.round()
        assert seen.decision.submit == ("training",)
        assert seen.training.endswith(f"; job {saved:04} was ended from outside ({how})")


@pytest.mark.parametrize(
    ("outcome", "how", "words"),
    [
        ("died", "FAILED", "3 tries without progress; the last one: SIGSEGV"),
        ("machine", "FAILED", "3 tries without progress; the last one: SIGSEGV"),
        ("working", "OUT_OF_MEMORY", "3 tries without progress; the last one: Slurm ended the job: OUT_OF_MEMORY"),
        ("yielded", "COMPLETED", "3 rounds of submissions in a row have changed nothing"),
        ("working", "TIMEOUT", "3 rounds of submissions in a row have changed nothing"),
    ],
)
def test_without_progress_three_tries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: Ending, how: str, words: str
) -> None:
    """Crashes, trouble, memory and jobs too short for one checkpoint end it after three, with the end of the log."""
    campaign = TrainingCampaign(tmp_path)
    campaign.round()
    campaign.end(outcome, gained=5, problem="SIGSEGV", how=how)
    seen = campaign.round()
    for _ in range(3):
        assert campaign.cluster.living(), "it is tried again"
        if outcome in ("died", "machine"):
            assert seen.training.endswith(f"{'died' if outcome == 'died' else 'failed'}: SIGSEGV")
        campaign.end(outcome, problem="SIGSEGV", how=how)
        seen = campaign.round()
    assert seen.decision.outcome == "stuck"
    assert seen.decision.diagnosis.startswith(words)
    assert finish(campaign.run, seen) == 4
    said = capsys.readouterr().err
    assert f"error: stuck: {words}" in said
    if outcome not in ("working", "yielded"):
        assert "last words: SIGSEGV" in said
    campaign.change_state(amnesty=len(campaign.run.submissions()))  # hpc.submit again
    assert campaign.round().decision.submit == ("training",)


def test_what_would_only_happen_again_ends_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that is not finite, or a damaged checkpoint, is told once, and no other job is submitted."""
    campaign = TrainingCampaign(tmp_path)
    campaign.round()
    campaign.end("damaged", gained=100, problem="step 7: the loss is nan")
    seen = campaign.round()
    assert (seen.decision.outcome, seen.decision.diagnosis) == ("stuck", "step 7: the loss is nan")
    assert finish(campaign.run, seen) == 4
    said = capsys.readouterr().err
    assert said.count("the loss is nan") == 2, "the message, and the log that ends with it"
    assert campaign.round().submitted.submissions == ()


def test_cancelled_and_full_storage(tmp_path: Path) -> None:
    """hpc.cancel keeps rounds from submitting; while results cannot be written, the next job waits."""
    campaign = TrainingCampaign(tmp_path)
    campaign.round()
    campaign.end("machine", problem="no room")
    campaign.change_state(cancelled=True)
    assert campaign.round().decision.diagnosis.startswith("it was cancelled")
    campaign.change_state(cancelled=False)
    assert campaign.round().decision.submit == ("training",)


def test_a_training_by_hand_is_left_alone(tmp_path: Path) -> None:
    """While another process holds the folder no job is submitted."""
    campaign = TrainingCampaign(tmp_path)
    path = campaign.run.claims_folder / "training.json"
    path.parent.mkdir(parents=True)
    theirs = {"pid": os.getppid(), "started": process_start(os.getppid())}
    claim = msgspec.structs.replace(Claim.of_this_process("by hand"), **theirs)
    assert write_if_absent(FileOps(), path, msgspec.json.encode(claim))
    assert campaign.round().submitted.submissions == ()
    path.unlink()
    assert campaign.round().decision.submit == ("training",)


def test_a_checkpoint_that_is_gone_begins_again(tmp_path: Path) -> None:
    """Where somebody has removed checkpoint.pt, a training is not over, whatever training.json says."""
    campaign = TrainingCampaign(tmp_path)
    tell_status(campaign.run.output_dir, epoch=3, step=50, saved=0)
    assert campaign.round().decision.submit == ("training",)


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [
        ({"cluster": "slurm", "device": "cuda", "gpus_per_node": 4}, 4),
        ({"cluster": "slurm", "device": "cpu", "gpus_per_node": 0}, 1),
        ({"cluster": "slurm", "device": "cpu", "gpus_per_node": 0, "procs_per_gpu": 2}, 2),
        ({"cluster": "local", "device": "cpu", "gpus_per_node": 0}, 1),
        ({"cluster": "local", "device": "cpu", "gpus_per_node": 0, "workers": 3}, 3),
        ({"cluster": "local", "device": "cuda", "gpus_per_node": 0}, 2),
        ({"cluster": "local", "device": "cuda", "gpus_per_node": 0, "workers": 1}, 1),
    ],
)
def test_a_process_per_gpu(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], ranks: int) -> None:
    """Of the job, or of this machine unless fewer are asked for; on CPUs one, unless more are asked for."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert ranks_of(Launch(**{"training": True, **settings})) == ranks  # type: ignore[arg-type]
