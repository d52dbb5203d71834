"""hpc/standing.py: who only looks learns what the controller knows, changes nothing, and is never told a guess."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from support.fake_cluster import Campaign
from support.runs import tree

from hpc.cluster import TaskSeen
from hpc.policy import Decision
from hpc.progress import TarState, scan
from hpc.stalls import Still, stall_file, write_stall
from hpc.standing import Running, Standing, Worker
from jobs.activities import Activity
from jobs.claims import Claim, process_start
from jobs.progress import DeviceSeconds, Progress, Try, write_progress
from jobs.watchdog import Stall


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, tars=3)


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine that lives on."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def claim(campaign: Campaign, name: str, *, task: str, host: str, pid: int = 1, started: str = "1") -> None:
    path = campaign.run.paths(name).claim
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = Claim.of_this_process("0" * 12)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(mine, task=task, host=host, pid=pid, started=started)))


def ask(campaign: Campaign) -> tuple[Running, dict[str, Worker]]:
    """What Slurm and claims say."""
    found = Standing(campaign.run, campaign.cluster, clock=campaign.clock)
    return found.running(), found.workers()


def judge_files(campaign: Campaign, states: Sequence[TarState]) -> Decision:
    """What files alone say."""
    return Standing(campaign.run, clock=campaign.clock).judge(states)


class TestAsk:
    def test_one_question_and_nothing_written(self, campaign: Campaign) -> None:
        """Tasks by node, and why others wait, cost one question; not even the digest of what has ended is written."""
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        campaign.cluster.begin(job, 0, "n2")
        campaign.cluster.lose(job, 2)
        campaign.cluster.calls.clear()
        before = tree(campaign.run.output_dir)
        running, _ = ask(campaign)
        assert (running.known, running.running, running.pending) == (True, {"n2": 1}, 1)
        assert running.reasons == {"Priority": 1}
        assert campaign.cluster.calls == ["look"]
        assert tree(campaign.run.output_dir) == before

    def test_what_their_devices_wait_for(self, campaign: Campaign) -> None:
        """Of tasks that run: not of one that has begun again to wait, nor of one whose work is done."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        for element in range(3):
            report = Progress(device_seconds=DeviceSeconds(8.0, 1.0, 1.0), finished=element == 1)
            write_progress(job.submission.report_file(element), report)
        for element in range(2):
            campaign.cluster.begin(job, element)
        running, _ = ask(campaign)
        assert running.device_seconds == DeviceSeconds(8.0, 1.0, 1.0)
        campaign.cluster.blind = True
        assert ask(campaign)[0].device_seconds == DeviceSeconds()

    def test_no_progress(self, campaign: Campaign) -> None:
        """Of tasks that run, since when they have made none, and at what."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        for element in range(2):
            stall = Stall(Activity(0, 1, 600.0, "load"), 300.0)
            write_stall(stall_file(job.submission, element), f"0001/{element}", "n1", stall, 1000.0)
        campaign.cluster.begin(job, 1)
        running, _ = ask(campaign)
        assert running.stalls == (Still("0001/1", "n1", "loading the backend", 700.0),)

    def test_nothing_to_ask(self, campaign: Campaign) -> None:
        """A run whose tasks have all ended asks nobody."""
        campaign.controller().round()
        campaign.cluster.run_all()
        campaign.controller().round()
        campaign.cluster.calls.clear()
        running, workers = ask(campaign)
        assert (running.known, running.running, running.pending, workers) == (True, {}, 0, {})
        assert campaign.cluster.calls == []

    def test_no_answer_is_not_known(self, campaign: Campaign) -> None:
        """Where nobody answers, nothing is said to have ended: claims stand."""
        campaign.controller().round()
        claim(campaign, "0", task="0001/0", host="n9")
        campaign.cluster.blind = True
        running, workers = ask(campaign)
        assert (running.known, running.unknown) == (False, 1)
        assert workers == {"0": Worker("0001/0", "n9")}

    @pytest.mark.parametrize("task", ["x", "0001/²", "/", "0001/" + "9" * 5000])
    def test_claim_of_what_is_no_task(self, campaign: Campaign, task: str) -> None:
        """A claim may say anything of its task, and stands as long as nothing better is known."""
        campaign.controller().round()
        claim(campaign, "0", task=task, host="n9")
        assert ask(campaign)[1] == {"0": Worker(task, "n9")}

    def test_claims_of_the_dead_are_nobodys(
        self, campaign: Campaign, neighbour: subprocess.Popen[bytes], tmp_path: Path
    ) -> None:
        """A claim counts while its task is in the queue, or its process lives here; after that it is left over."""
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        job.alive[0] = TaskSeen("RUNNING", "n1")
        campaign.cluster.lose(job, 1, "TIMEOUT")
        claim(campaign, "0", task="0001/0", host="n1")
        claim(campaign, "1", task="0001/1", host="n1")
        here = Claim.of_this_process("").host
        claim(campaign, "2", task="", host=here, pid=neighbour.pid, started=process_start(neighbour.pid))
        _, workers = ask(campaign)
        assert workers == {"0": Worker("0001/0", "n1"), "2": Worker("", here)}
        assert str(workers["0"]) == "task 0001/0 on n1"
        campaign.cluster.lose_all("TIMEOUT")
        campaign.controller().look()
        _, workers = ask(campaign)
        assert set(workers) == {"2"}


class TestJudgeFiles:
    def test_quarantine_is_the_controllers(self, campaign: Campaign) -> None:
        """When all has ended, files alone give the quarantine and the nodes to avoid that the controller decided on."""
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.run(job, 0, "good")
        for element in (1, 2):
            campaign.cluster.end(job, element, Try(str(element), "machine", problem="CUDA error"), node="bad")
        for _ in range(3):
            campaign.controller().round()
            campaign.cluster.end_all("failed", "good", "Permission denied")
        seen = campaign.controller().round()
        assert seen.decision.outcome == "quarantined"
        found = judge_files(campaign, seen.states)
        assert (found.quarantine, found.exclude) == (seen.decision.quarantine, seen.decision.exclude)
        assert (set(found.quarantine), set(found.exclude)) == ({"1", "2"}, {"bad"})

    def test_verdict_of_a_task_that_goes_on(self, campaign: Campaign) -> None:
        """A damaged tar is in quarantine as soon as its worker has said so, though that worker has other tars yet."""
        campaign.tars[1].write_bytes(campaign.tars[1].read_bytes()[:700])
        campaign.controller().round()
        job = campaign.cluster.living()[0]
        element = next(e for e in range(3) if job.plan.slots[e][0].name == "1")
        campaign.cluster.run(job, element)
        found = judge_files(campaign, list(scan(campaign.run, campaign.run.listed())))
        assert set(found.quarantine) == {"1"}
        assert found.quarantine["1"].startswith("cut: ")

    def test_amnesty(self, campaign: Campaign) -> None:
        """What --retry-quarantined has forgiven is in quarantine no more."""
        campaign.tars[1].write_bytes(campaign.tars[1].read_bytes()[:700])
        campaign.controller().round()
        campaign.cluster.run_all()
        seen = campaign.controller().round()
        assert set(judge_files(campaign, seen.states).quarantine) == {"1"}
        campaign.change_state(amnesty=1)
        assert judge_files(campaign, seen.states).quarantine == {}
