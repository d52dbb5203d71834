"""hpc/evidence.py: who only looks judges by the same evidence as the controller, and so comes to the same decision."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.fake_cluster import Campaign, FakeCluster

from audio_tokenizers.errors import UsageError
from hpc.patience import GRACE_SECONDS, REFUSALS
from hpc.policy import Decision
from hpc.progress import scan
from hpc.standing import Standing
from hpc.storage_waits import STORAGE_ROUNDS
from jobs.claims import Claim
from jobs.progress import Progress, Try, write_progress

LATER = GRACE_SECONDS + 1


def looker(campaign: Campaign, *, by_files: bool = False) -> Decision:
    """What one who only looks says now, once a controller has seen what has ended."""
    campaign.controller().look()
    found = Standing(campaign.run, None if by_files else campaign.cluster, clock=campaign.clock)
    return found.judge(list(scan(campaign.run, campaign.run.listed())))


def round_of(campaign: Campaign) -> Decision:
    return campaign.controller().round().decision


def both_ways(campaign: Campaign) -> Decision:
    """What a round decides, when one who looks just before it, with Slurm's answer or without, has said the same."""
    seen = [looker(campaign), looker(campaign, by_files=True)]
    decision = round_of(campaign)
    assert seen == [decision, decision]
    return decision


class TestLookersAgree:
    def test_arrays_of_one_round_count_once(self, tmp_path: Path) -> None:
        """Two rounds of two arrays each that changed nothing are two rounds: neither the round nor who looks says stuck."""
        campaign = Campaign(tmp_path, 4, FakeCluster(array_limit=2))
        round_of(campaign)
        for _ in range(2):
            assert len(campaign.cluster.living()) == 2
            campaign.cluster.lose_all("TIMEOUT")
            campaign.clock.now += LATER
            decision = both_ways(campaign)
            assert (decision.outcome, decision.diagnosis) == ("running", "")
        campaign.cluster.lose_all("TIMEOUT")
        campaign.clock.now += LATER
        assert both_ways(campaign).outcome == "stuck"

    def test_refusals_are_no_rounds_in_vain(self, tmp_path: Path) -> None:
        """Slurm that refuses in other words each time is asked again, and who looks says so."""
        campaign = Campaign(tmp_path, 1)
        for number in range(REFUSALS - 1):
            campaign.cluster.answers = ["refuse"]
            campaign.cluster.refusal = f"no {chr(97 + number) * 3}"
            with pytest.raises(UsageError):
                round_of(campaign)
        assert looker(campaign) == looker(campaign, by_files=True)
        assert looker(campaign).outcome == "running"
        assert both_ways(campaign).submit == ("0",)

    def test_full_storage(self, tmp_path: Path) -> None:
        """While a run waits for room, who looks is told what it waits for; and that it is stuck when the round says so."""
        campaign = Campaign(tmp_path, 1)
        outcomes = set()
        for _ in range(3 * STORAGE_ROUNDS):
            decision = both_ways(campaign)
            outcomes.add(decision.outcome)
            if not decision.submit:
                assert "no room on " in decision.diagnosis
                assert str(campaign.run.output_dir) in decision.diagnosis
                campaign.clock.now += 1000.0
            for job in campaign.cluster.living():
                campaign.cluster.end(job, 0, Try("0", "machine", problem="disk full", storage="full"))
        assert outcomes == {"running", "stuck"}

    def test_worker_that_takes_clip_after_clip_now(self, tmp_path: Path) -> None:
        """A worker that died with several clips in hand has a successor: its tar is taken, and nothing is stuck."""
        campaign = Campaign(tmp_path, 1)
        round_of(campaign)
        (job,) = campaign.cluster.living()
        campaign.cluster.begin(job, 0)
        died = Try("0", "died", problem="SIGSEGV", several=True)
        write_progress(job.submission.report_file(0), Progress(node="n1", tries=[died]))
        decision = both_ways(campaign)
        assert (decision.outcome, decision.submit) == ("running", ())

    def test_tar_that_a_claim_holds(self, tmp_path: Path) -> None:
        """A tar that somebody works on by hand is taken, for who looks too."""
        campaign = Campaign(tmp_path, 1)
        claim = msgspec.structs.replace(Claim.of_this_process("0" * 12), host="n9", pid_namespace="other")
        path = campaign.run.paths("0").claim
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(claim))
        decision = both_ways(campaign)
        assert (decision.outcome, decision.submit) == ("running", ())

    def test_slurm_that_does_not_answer(self, tmp_path: Path) -> None:
        """What nobody can tell is taken for alive, by the controller and by who looks."""
        campaign = Campaign(tmp_path, 2)
        round_of(campaign)
        campaign.cluster.lose_all("TIMEOUT")
        campaign.cluster.blind = True
        campaign.clock.now += LATER
        decision = looker(campaign)
        assert (decision.outcome, decision.submit) == ("running", ())
        assert round_of(campaign) == decision
        campaign.cluster.blind = False
        assert looker(campaign).submit == ("0", "1")
