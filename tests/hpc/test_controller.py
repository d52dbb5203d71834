"""hpc/controller.py: rounds that lose nothing and submit nothing twice, whatever dies, lies, lags or is said meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from support.crashing import CrashingOps, SimulatedCrash
from support.fake_cluster import HOST, Campaign, FakeCluster, control_through
from support.small_run import small_tar, tokenize

from audio_tokenizers.errors import UsageError
from hpc.cluster import SubmitRefusedError
from hpc.controller import Controller, Round
from hpc.evidence import View
from hpc.lock import LockHeldError
from hpc.patience import GRACE_SECONDS, REFUSALS
from hpc.progress import scan
from hpc.run import RunState
from hpc.storage_waits import STORAGE_ROUNDS, pause_s
from jobs.claims import STALE_SECONDS, Claim, process_start
from jobs.progress import Progress, Try, write_progress

LATER = GRACE_SECONDS + 1


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine that lives on."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def claim_of(process: subprocess.Popen[bytes]) -> Claim:
    """A claim as that process would make it."""
    mine = Claim.of_this_process("123456789abc")
    return msgspec.structs.replace(mine, pid=process.pid, started=process_start(process.pid))


def put(path: Path, claim: Claim) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(claim))


def undisturbed(campaign: Campaign) -> dict[str, bytes]:
    """What one worker makes of the same tars, in another folder."""
    output = campaign.run.output_dir.parent / "undisturbed"
    for tar in campaign.tars:
        tokenize(tar, output)
    return {path.stem: path.read_bytes() for path in output.glob("*.jsonl")}


def drive(campaign: Campaign, rounds: int = 12) -> Round:
    """A controller that nobody disturbs, and tasks that all go well, until the end."""
    controller = campaign.controller()
    for _ in range(rounds):
        seen = controller.round()
        if seen.decision.outcome != "running":
            return seen
        campaign.cluster.run_all()
        campaign.clock.now += LATER
    raise AssertionError("it does not end")


class TestRounds:
    def test_from_list_to_finished(self, tmp_path: Path) -> None:
        """Each tar is submitted once; while tasks live nothing is; when they have ended, the run is finished."""
        campaign = Campaign(tmp_path, 3)
        controller = campaign.controller()
        seen = controller.round()
        assert (seen.decision.outcome, seen.submitted.submissions, seen.submitted.waiting) == ("running", (1,), 0)
        assert campaign.cluster.tars() == campaign.names
        seen = controller.round()
        assert (seen.decision.submit, seen.submitted.submissions) == ((), ())
        assert list(seen.running) == [1]
        campaign.cluster.run_all()
        seen = controller.round()
        assert seen.decision.outcome == "finished"
        assert not seen.running
        assert seen.audio_seconds > 0
        assert seen.bytes_left == 0
        assert campaign.committed() == undisturbed(campaign)

    def test_one_look_and_one_explanation_per_round(self, tmp_path: Path) -> None:
        """However many submissions there are, a round asks Slurm once what lives, and once how the rest ended."""
        campaign = Campaign(tmp_path, 6, FakeCluster(array_limit=3))
        controller = campaign.controller()
        controller.round()
        assert len(campaign.cluster.jobs) == 2
        campaign.cluster.lose_all("NODE_FAIL")
        campaign.cluster.calls.clear()
        controller.round()
        assert campaign.cluster.calls.count("look") == 1
        assert campaign.cluster.calls.count("explain") == 1
        assert campaign.cluster.calls.count("submit") == 2

    def test_ended_submission_is_asked_about_once(self, tmp_path: Path) -> None:
        """What has ended is kept in one file, with Slurm's words: nobody asks again, not even a new controller."""
        campaign = Campaign(tmp_path, 2)
        campaign.controller().round()
        campaign.cluster.lose(campaign.cluster.living()[0], 0, "TIMEOUT")
        campaign.cluster.run_all()
        campaign.controller().round()
        submission = campaign.run.submissions()[0]
        digest = submission.read_digest()
        assert digest is not None
        assert digest.states == {"TIMEOUT": 1, "COMPLETED": 1}
        written = submission.digest_file.stat().st_mtime_ns
        drive(campaign)
        assert submission.digest_file.stat().st_mtime_ns == written

    def test_growing_list(self, tmp_path: Path) -> None:
        """Tars that are added while a controller watches come into its next round."""
        campaign = Campaign(tmp_path, 1)
        controller = campaign.controller()
        controller.round()
        new = small_tar(tmp_path / "data" / "new.tar", clips=3)
        campaign.run.add_to_list([str(new)], keep_dirs=False)
        controller.round()
        assert campaign.cluster.tars() == ["0", "new"]

    def test_history_tells_what_was_decided(self, tmp_path: Path) -> None:
        """A line for each round that brought news, and none for those that only looked."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        for _ in range(3):
            controller.round()
        campaign.cluster.run_all()
        controller.round()
        lines = [msgspec.json.decode(line) for line in campaign.run.history_file.read_bytes().splitlines()]
        assert [(line["outcome"], line["submitted"]) for line in lines] == [("running", [1]), ("finished", [])]


class TestMadeKnown:
    def test_rounds_and_ends_after_the_last_one(self, tmp_path: Path, neighbour: subprocess.Popen[bytes]) -> None:
        """Each round is made known with the state and the submissions that it saw, and so is what its tasks did after the
        last one; not while another controller is at work, which says it itself.
        """
        campaign = Campaign(tmp_path, 2)
        told: list[tuple[Round, str, int]] = []

        def tell(seen: Round, state: RunState, views: Sequence[View]) -> None:
            told.append((seen, state.run_id, sum(view.digest is not None for view in views)))

        run, cluster = campaign.run, campaign.cluster
        controller = Controller(run, cluster, campaign.launch, host=HOST, clock=campaign.clock, tell=tell)
        controller.round()
        seen = controller.round()
        assert seen.seconds > 0
        assert [one[1:] for one in told] == [("abc", 0), ("abc", 0)]
        assert list(told[1][0].running) == [1]
        campaign.cluster.run_all()
        put(run.folder / "round.lock", claim_of(neighbour))
        controller.tell_ends(seen)
        assert len(told) == 2
        (run.folder / "round.lock").unlink()
        controller.tell_ends(seen)
        assert told[2][1:] == ("abc", 1)
        assert (told[2][0].running, told[2][0].decision) == ({}, seen.decision)
        assert len(campaign.cluster.jobs) == 1


class TestWhatOthersPutThere:
    @pytest.mark.parametrize("name", ["²", "٣", "1", "9" * 200])
    def test_folder_that_is_no_submission(self, tmp_path: Path, name: str) -> None:
        """A folder called by digits that no submission is called by ends no round, and is taken for none."""
        campaign = Campaign(tmp_path, 1)
        (campaign.run.submissions_folder / name).mkdir(parents=True)
        assert drive(campaign).decision.outcome == "finished"
        assert [one.number for one in campaign.run.submissions()] == [1]

    @pytest.mark.parametrize("task", ["x", "0001/²", "٣/0", "/", "0001/" + "9" * 5000, "0001/0/0", "-1/0"])
    def test_claim_and_plan_that_name_strange_tasks(self, tmp_path: Path, task: str) -> None:
        """A claim that names what is no task stands while it lives, and no round and no worker ends for it."""
        campaign = Campaign(tmp_path, 2)
        foreign = msgspec.structs.replace(Claim.of_this_process("0" * 12, task), host="n9")
        put(campaign.run.paths("0").claim, foreign)
        seen = campaign.controller().round()
        assert seen.decision.submit == ("1",)
        (job,) = campaign.cluster.living()
        assert not job.plan.knows_gone(task)
        campaign.cluster.run_all()
        aged = campaign.run.paths("0").claim.stat().st_mtime - STALE_SECONDS - 60
        os.utime(campaign.run.paths("0").claim, (aged, aged))
        assert drive(campaign).decision.outcome == "finished"


class TestTasksThatEnd:
    def test_stopped_tasks_are_submitted_again(self, tmp_path: Path) -> None:
        """Time limits, lost nodes and cancelled tasks, pending ones of which no account tells too, count against nobody."""
        campaign = Campaign(tmp_path, 3)
        controller = campaign.controller()
        for how in ("TIMEOUT", "NODE_FAIL", "PREEMPTED", "CANCELLED", ""):
            controller.round()
            job = campaign.cluster.living()[0]
            assert sorted(job.tars) == campaign.names
            for element in list(job.alive):
                first = job.plan.slots[element][0].name
                campaign.cluster.begin(job, element)
                campaign.cluster.end(job, element, Try(first, "working", gained=1))
                job.ends[element] = how
        assert drive(campaign).decision.outcome == "finished"

    def test_only_what_has_ended_is_submitted(self, tmp_path: Path) -> None:
        """One task of an array is lost: its tar alone gets a new task, and the others keep theirs."""
        campaign = Campaign(tmp_path, 4)
        controller = campaign.controller()
        controller.round()
        job = campaign.cluster.living()[0]
        lost = job.plan.slots[2][0].name
        campaign.cluster.lose(job, 2)
        assert controller.round().decision.submit == (lost,)
        plan = campaign.cluster.living()[1].plan
        assert plan.alive == {1: (0, 1, 3)}
        assert plan.knows_gone("0001/2")
        assert not plan.knows_gone("0001/1")

    def test_whole_nodes(self, tmp_path: Path) -> None:
        """A task of four workers that is lost brings back the tars of all four, and no others."""
        campaign = Campaign(tmp_path, 6, gpus_per_node=4)
        controller = campaign.controller()
        controller.round()
        job = campaign.cluster.living()[0]
        assert (job.job.elements, len(job.plan.slots)) == (2, 6)
        lost = {task.name for slot in job.plan.slots_of(0) for task in job.plan.slots[slot]}
        campaign.cluster.lose(job, 0)
        assert set(controller.round().decision.submit) == lost

    def test_tar_that_fails_three_times_is_given_up(self, tmp_path: Path) -> None:
        """Tries without progress count, round after round and controller after controller; the others go on."""
        campaign = Campaign(tmp_path, 2)
        campaign.tars[0].unlink()
        seen = drive(campaign)
        assert seen.decision.outcome == "quarantined"
        assert set(seen.decision.quarantine) == {"0"}
        assert "3 tries without progress" in seen.decision.quarantine["0"]
        assert set(campaign.committed()) == {"1"}
        assert campaign.controller().round().decision.outcome == "quarantined"

    def test_amnesty(self, tmp_path: Path) -> None:
        """What happened up to the submission that an amnesty names counts no more: the tar is tried again."""
        campaign = Campaign(tmp_path, 1)
        whole = campaign.tars[0].read_bytes()
        campaign.tars[0].unlink()
        assert drive(campaign).decision.outcome == "quarantined"
        campaign.tars[0].write_bytes(whole)
        assert drive(campaign).decision.outcome == "quarantined"
        campaign.change_state(amnesty=campaign.run.submissions()[-1].number)
        assert drive(campaign).decision.outcome == "finished"

    @pytest.mark.parametrize("what", ["committed", "manifest"])
    def test_files_that_were_moved_away_are_made_again(self, tmp_path: Path, what: str) -> None:
        """A tar whose files cannot be trusted is given up, and let in again by itself once they are gone, as is promised
        where they are refused; while they are there its tries count.
        """
        campaign = Campaign(tmp_path, 4)
        assert drive(campaign).decision.outcome == "finished"
        before = campaign.committed()
        for name in "01":
            path = getattr(campaign.run.paths(name), what)
            path.write_bytes(path.read_bytes()[:-9])
        seen = drive(campaign)
        assert (seen.decision.outcome, set(seen.decision.quarantine)) == ("quarantined", set("01"))
        advice = "move it away to have it made again" if what == "committed" else "delete it to start over"
        assert all(advice in reason for reason in seen.decision.quarantine.values())
        assert drive(campaign).submitted.submissions == ()
        paths = campaign.run.paths("0")
        if what == "manifest":
            paths.manifest.unlink()
            assert "0" in drive(campaign).decision.quarantine  # for nothing vouches for its lines now
        paths.committed.rename(tmp_path / "away")
        seen = drive(campaign)
        assert (seen.decision.outcome, set(seen.decision.quarantine)) == ("quarantined", {"1"})
        assert campaign.committed()["0"] == before["0"]

    def test_broken_tar_that_is_copied_again(self, tmp_path: Path) -> None:
        """A cut tar is quarantined at once, with the reason; another file in its place is let in again by itself."""
        campaign = Campaign(tmp_path, 2)
        whole = campaign.tars[1].read_bytes()
        campaign.tars[1].write_bytes(whole[:700])
        seen = drive(campaign)
        assert seen.decision.outcome == "quarantined"
        assert seen.decision.quarantine["1"].startswith("cut: ")
        assert len(campaign.cluster.jobs) == 1
        campaign.tars[1].write_bytes(whole)
        assert drive(campaign).decision.outcome == "finished"
        assert campaign.committed() == undisturbed(campaign)

    def test_clip_that_kills_becomes_a_record(self, tmp_path: Path) -> None:
        """After two deaths with the same clip in hand, the plan tells workers to write it down and go on."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        job = campaign.cluster.living()[0]
        element = next(number for number, slot in enumerate(job.plan.slots) if slot[0].name == "0")
        died = Try("0", "died", clip=1, problem="the worker was killed by SIGSEGV")
        campaign.cluster.end(job, element, died)
        campaign.cluster.run_all()
        controller.round()
        assert campaign.cluster.living()[0].plan.slots[0][0].crash_clips == ()
        campaign.cluster.end(campaign.cluster.living()[0], 0, died)
        controller.round()
        assert campaign.cluster.living()[0].plan.slots[0][0].crash_clips == (1,)
        assert drive(campaign).decision.outcome == "finished"
        kinds = [msgspec.json.decode(line).get("error_kind") for line in campaign.committed()["0"].splitlines()]
        assert kinds == [None, "crash", "decode"]

    def test_out_of_memory_without_a_witness(self, tmp_path: Path) -> None:
        """Where the kernel ends a whole job no report says so: then Slurm's word counts against the tar, but for the first
        time, when several clips were in hand.
        """
        campaign = Campaign(tmp_path, 1)
        controller = campaign.controller()
        for number in range(4):
            decision = controller.round().decision
            assert (decision.outcome, decision.one_at_a_time) == ("running", ("0",) if number else ())
            job = campaign.cluster.living()[0]
            campaign.cluster.end(job, 0, Try("0", "working", alone=number > 0))
            job.ends[0] = "OUT_OF_MEMORY"
        seen = controller.round()
        assert "--mem-per-gpu" in seen.decision.quarantine["0"]


class TestNodes:
    def test_bad_node_is_avoided_by_pending_and_by_new_tasks(self, tmp_path: Path) -> None:
        """A node where different tars fail while others work: pending tasks are told once, and new ones begin elsewhere."""
        campaign = Campaign(tmp_path, 6, FakeCluster(array_limit=3))
        cluster = campaign.cluster
        controller = campaign.controller()
        controller.round()
        first, second = cluster.living()
        cluster.run(first, 0, node="good")
        for element in (1, 2):
            tar = first.plan.slots[element][0].name
            cluster.end(first, element, Try(tar, "machine", problem="CUDA error: unknown error"), node="bad")
        seen = controller.round()
        assert set(seen.decision.exclude) == {"bad"}
        assert cluster.avoided == [([second.job.name], ["bad"])]
        assert cluster.living()[-1].exclude == ("bad",)
        controller.round()
        assert len(cluster.avoided) == 1
        assert drive(campaign).decision.outcome == "finished"


class TestNotKnowing:
    def test_squeue_that_fails(self, tmp_path: Path) -> None:
        """Not known is not gone: while nobody can tell what lives, nothing is submitted and nothing is closed."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        campaign.cluster.lose_all()
        campaign.cluster.blind = True
        for each in (controller, campaign.controller()):
            seen = each.round()
            assert (seen.decision.outcome, seen.decision.submit, seen.unknown) == ("running", (), (1,))
        assert campaign.run.submissions()[0].read_digest() is None
        campaign.cluster.blind = False
        campaign.clock.now += LATER
        assert set(controller.round().decision.submit) == set(campaign.names)

    def test_answer_that_is_lost_with_the_job(self, tmp_path: Path) -> None:
        """Sbatch gave no answer, and the job is not in the queue: nothing is submitted until the grace is over."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["lost"]
        controller = campaign.controller()
        assert controller.round().submitted.waiting == 2
        for _ in range(3):
            campaign.clock.now += GRACE_SECONDS / 3
            seen = controller.round()
            assert (seen.decision.outcome, seen.decision.submit, seen.unknown) == ("running", (), (1,))
        campaign.clock.now += 1
        assert set(controller.round().decision.submit) == set(campaign.names)
        assert drive(campaign).decision.outcome == "finished"

    def test_answer_that_is_lost_without_the_job(self, tmp_path: Path) -> None:
        """Sbatch gave no answer and had submitted: the job is found by its name, also late, and its id is kept."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["kept"]
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.hidden = {job.job.name}
        campaign.clock.now += GRACE_SECONDS / 2
        assert campaign.controller().round().decision.submit == ()
        campaign.cluster.hidden = set()
        campaign.clock.now += LATER
        assert campaign.controller().round().decision.submit == ()
        known = campaign.run.submissions()[0].read_job()
        assert known is not None
        assert (known.state, known.job_id) == ("submitted", job.job_id)
        assert drive(campaign).decision.outcome == "finished"
        assert len(campaign.cluster.jobs) == 1

    def test_lost_answers_count_against_nobody(self, tmp_path: Path) -> None:
        """However often sbatch fails without a word, the run is neither stuck nor quarantined."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["lost"] * 6
        assert drive(campaign, rounds=20).decision.outcome == "finished"


class TestClaims:
    def test_tar_of_a_manual_worker_is_left_alone(self, tmp_path: Path, neighbour: subprocess.Popen[bytes]) -> None:
        """A living worker that somebody started by hand keeps its tar out of plans; when it is gone, the tar is planned."""
        campaign = Campaign(tmp_path, 2)
        put(campaign.run.paths("0").claim, claim_of(neighbour))
        controller = campaign.controller()
        seen = controller.round()
        assert (seen.decision.submit, seen.decision.outcome) == (("1",), "running")
        campaign.cluster.run_all()
        assert controller.round().decision.outcome == "running"
        neighbour.communicate()
        assert controller.round().decision.submit == ("0",)
        assert drive(campaign).decision.outcome == "finished"

    def test_silent_claim_of_another_host(self, tmp_path: Path) -> None:
        """A worker on a host that cannot be asked is left alone as long as it gives signs of life."""
        campaign = Campaign(tmp_path, 1)
        path = campaign.run.paths("0").claim
        put(path, Claim("123456789abc", "elsewhere", 1, "1"))
        assert campaign.controller().round().decision.outcome == "running"
        assert campaign.cluster.jobs == {}
        before = path.stat().st_mtime - STALE_SECONDS - 100
        os.utime(path, (before, before))
        assert campaign.controller().round().decision.submit == ("0",)

    def test_claim_of_a_task_that_has_ended(self, tmp_path: Path) -> None:
        """A claim whose task Slurm no longer has keeps nobody waiting, however fresh it looks."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        job = campaign.cluster.living()[0]
        name = job.plan.slots[1][0].name
        put(campaign.run.paths(name).claim, Claim("123456789abc", "n1", 7, "1", "0001/1"))
        campaign.cluster.lose(job, 1)
        assert controller.round().decision.submit == (name,)

    @pytest.mark.parametrize("task", ["x", "7", "a/b", "0001/²", "/", "0001/" + "9" * 5000])
    def test_claim_of_what_is_no_task(self, task: str, tmp_path: Path) -> None:
        """A claim may say anything of its task: a fresh one is left alone, and the round goes on."""
        campaign = Campaign(tmp_path, 2)
        put(campaign.run.paths("0").claim, Claim("123456789abc", "elsewhere", 1, "1", task))
        assert campaign.controller().round().decision.submit == ("1",)


class TestPeople:
    def test_cancelled_run_submits_nothing(self, tmp_path: Path) -> None:
        """After hpc.cancel no controller submits more; tasks that live are waited for; then it stops and says why."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        campaign.change_state(cancelled=True)
        campaign.cluster.lose(campaign.cluster.living()[0], 0)
        seen = controller.round()
        assert (seen.decision.outcome, seen.decision.submit) == ("running", ())
        campaign.cluster.lose_all()
        campaign.clock.now += LATER
        seen = controller.round()
        assert (seen.decision.outcome, seen.decision.submit) == ("stuck", ())
        assert "cancelled" in seen.decision.diagnosis
        assert len(campaign.cluster.jobs) == 1
        campaign.change_state(cancelled=False)
        assert drive(campaign).decision.outcome == "finished"

    def test_cancelled_run_that_is_finished(self, tmp_path: Path) -> None:
        """Nothing was left to cancel: it is finished all the same."""
        campaign = Campaign(tmp_path, 1)
        drive(campaign)
        campaign.change_state(cancelled=True)
        assert campaign.controller().round().decision.outcome == "finished"

    def test_retry_of_errors(self, tmp_path: Path) -> None:
        """A committed tar whose errors somebody wants tried again gets one task more, and only one."""
        campaign = Campaign(tmp_path, 2)
        drive(campaign)
        states = {tar.name: tar for tar in scan(campaign.run, campaign.run.listed())}
        manifest = states["1"].manifest
        assert manifest is not None
        assert manifest.errors
        campaign.change_state(retry={"1": manifest.attempt})
        seen = campaign.controller().round()
        assert (seen.decision.outcome, seen.decision.submit) == ("running", ("1",))
        assert campaign.cluster.living()[0].plan.slots[0][0].retry_errors
        assert drive(campaign).decision.outcome == "finished"
        assert len(campaign.cluster.jobs) == 2

    def test_refused_job(self, tmp_path: Path) -> None:
        """A job that Slurm will never take is bad usage, in its words; once that is fixed, all goes on."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["refuse"]
        with pytest.raises(UsageError, match="Invalid partition name specified"):
            campaign.controller().round()
        assert "Invalid partition" in campaign.run.history_file.read_text()
        (submission,) = campaign.run.submissions()
        job = submission.read_job()
        assert job is not None
        assert job.state == "refused"
        assert drive(campaign).decision.outcome == "finished"

    def test_same_refusal_twice(self, tmp_path: Path) -> None:
        """The run is stuck with Slurm's words, and asks no more, until a person says that something has changed."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["refuse"] * 9
        with pytest.raises(SubmitRefusedError):
            campaign.controller().round()
        for _ in range(3):
            seen = campaign.controller().round()
            assert (seen.decision.outcome, seen.decision.submit) == ("stuck", ())
            assert "twice the same: sbatch refused the job: Invalid partition name" in seen.decision.diagnosis
        assert campaign.cluster.calls.count("submit") == 2
        campaign.cluster.answers = []
        campaign.change_state(amnesty=2)
        assert drive(campaign).decision.outcome == "finished"

    def test_refusal_that_is_none(self, tmp_path: Path) -> None:
        """A site's own sbatch may fail when Slurm's has submitted: the job is found by its name before the next try."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["lie"]
        with pytest.raises(SubmitRefusedError, match="quota"):
            campaign.controller().round()
        assert list(campaign.controller().open_jobs()) == [1]
        seen = campaign.controller().round()
        assert (seen.decision.outcome, list(seen.running), seen.submitted.submissions) == ("running", [1], ())
        (submission,) = campaign.run.submissions()
        job = submission.read_job()
        assert job is not None
        assert (job.state, job.job_id) == ("submitted", "1")
        assert drive(campaign).decision.outcome == "finished"
        assert len(campaign.cluster.jobs) == 1

    def test_refusals_while_tasks_run(self, tmp_path: Path) -> None:
        """What runs is waited for, while nothing more is submitted."""
        campaign = Campaign(tmp_path, 3)
        controller = campaign.controller()
        controller.round()
        campaign.cluster.lose(campaign.cluster.living()[0], 0, "TIMEOUT")
        campaign.cluster.answers = ["refuse", "refuse"]
        with pytest.raises(SubmitRefusedError):
            controller.round()
        for _ in range(2):
            seen = controller.round()
            assert (seen.decision.outcome, seen.decision.submit) == ("running", ())
            assert "Invalid partition name" in seen.decision.diagnosis
        campaign.cluster.run_all()
        assert controller.round().decision.outcome == "stuck"

    def test_refusals_that_differ_count_against_nobody(self, tmp_path: Path) -> None:
        """What somebody has mended has been mended: refusals, however many, are no evidence against tars."""
        campaign = Campaign(tmp_path, 1)
        campaign.cluster.answers = ["refuse"] * (REFUSALS - 1)
        for reason in "abc":
            campaign.cluster.refusal = reason
            with pytest.raises(SubmitRefusedError):
                campaign.controller().round()
        assert drive(campaign).decision.outcome == "finished"

    def test_refusals_that_differ_come_to_an_end(self, tmp_path: Path) -> None:
        """A site whose words are never the same, such as with a tip of the day, is not asked for ever."""
        campaign = Campaign(tmp_path, 1)
        campaign.cluster.answers = ["refuse"] * 100
        for reason in "abc":
            campaign.cluster.refusal = reason
            with pytest.raises(SubmitRefusedError):
                campaign.controller().round()
        campaign.cluster.refusal = "d"
        for _ in range(2):
            decision = campaign.controller().round().decision
            assert decision.outcome == "stuck"
            assert "4 times in a row: sbatch refused the job: d" in decision.diagnosis
        assert campaign.cluster.calls.count("submit") == REFUSALS


class TestJustSubmitted:
    def test_queue_that_shows_it_late(self, tmp_path: Path) -> None:
        """A squeue that answers from a snapshot does not know the job yet: it is not submitted again, and is cancelled."""
        campaign = Campaign(tmp_path, 2)
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.hidden = {job.job.name}
        for _ in range(3):
            campaign.clock.now += GRACE_SECONDS / 3
            seen = campaign.controller().round()
            assert (seen.decision.outcome, seen.decision.submit, seen.unknown) == ("running", (), (1,))
        assert list(campaign.controller().open_jobs()) == [1]
        campaign.cluster.hidden = set()
        assert list(campaign.controller().round().running) == [1]
        assert len(campaign.cluster.jobs) == 1

    def test_queue_that_shows_it_only_now_and_then(self, tmp_path: Path) -> None:
        """Another login node's snapshot may be older: what one squeue has shown is not gone because the next does not."""
        campaign = Campaign(tmp_path, 2)
        campaign.controller().round()
        campaign.controller().round()
        (job,) = campaign.cluster.living()
        campaign.cluster.hidden = {job.job.name}
        seen = campaign.controller().round()
        assert (seen.decision.outcome, seen.decision.submit, seen.unknown) == ("running", (), (1,))
        campaign.cluster.lose_all()
        campaign.clock.now += LATER
        assert set(campaign.controller().round().decision.submit) == set(campaign.names)

    def test_accounts_know_of_a_quick_end(self, tmp_path: Path) -> None:
        """A job that the queue never showed has ended for sure when the accounts say of each task how it did."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        (job,) = campaign.cluster.living()
        campaign.cluster.lose(job, 0, "FAILED")
        campaign.cluster.lose(job, 1)
        assert controller.round().unknown == (1,)
        job.ends[1] = "CANCELLED"
        assert set(controller.round().decision.submit) == set(campaign.names)

    def test_reports_know_of_a_quick_end(self, tmp_path: Path) -> None:
        """So it has when each worker has reported its own end, where there are no accounts."""
        campaign = Campaign(tmp_path, 2)
        controller = campaign.controller()
        controller.round()
        campaign.cluster.run_all()
        campaign.cluster.jobs["tar2tokens-abc-0001"].ends.clear()
        assert controller.round().decision.outcome == "finished"
        assert campaign.run.submissions()[0].read_digest() is not None

    def test_time_that_sbatch_took(self, tmp_path: Path) -> None:
        """The grace begins when sbatch has answered, or was given up: that may be a minute after it was called."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.answers = ["lost"]
        campaign.controller().round()
        (submission,) = campaign.run.submissions()
        job = submission.read_job()
        assert job is not None
        submission.write_job(msgspec.structs.replace(job, answered_at=job.intended_at + GRACE_SECONDS))
        campaign.clock.now += LATER
        assert campaign.controller().round().unknown == (1,)


class TestCancelledAtTheStart:
    def test_tasks_that_somebody_cancels_while_they_start(self, tmp_path: Path) -> None:
        """Logs without a report, round after round: cancelled and preempted tasks count against nobody."""
        campaign = Campaign(tmp_path, 4)
        controller = campaign.controller()
        for how in ("CANCELLED", "PREEMPTED", "CANCELLED", "PREEMPTED", "CANCELLED"):
            assert controller.round().decision.outcome == "running"
            (job,) = campaign.cluster.living()
            for element in list(job.alive):
                campaign.cluster._log(job, element, element, "loading modules")
                campaign.cluster.lose(job, element, how)
        assert drive(campaign).decision.outcome == "finished"

    def test_where_there_are_no_accounts(self, tmp_path: Path) -> None:
        """Slurm's last words are in the logs."""
        campaign = Campaign(tmp_path, 4)
        campaign.cluster.accounts = False
        controller = campaign.controller()
        for _ in range(5):
            assert controller.round().decision.outcome == "running"
            (job,) = campaign.cluster.living()
            for element in list(job.alive):
                words = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-28T08:00:00 ***"
                campaign.cluster._log(job, element, element, words)
                campaign.cluster.lose(job, element)
            campaign.clock.now += LATER
        assert drive(campaign).decision.outcome == "finished"

    def test_accounts_that_are_late(self, tmp_path: Path) -> None:
        """While they do not say how a task ended, and its log does not either, nobody says that it ended by itself; they
        have a minute.
        """
        for told in (True, False):
            campaign = Campaign(tmp_path / str(told), 4)
            controller = campaign.controller()
            controller.round()
            (job,) = campaign.cluster.living()
            for element in list(job.alive):
                campaign.cluster._log(job, element, element, "loading modules")
                campaign.cluster.lose(job, element, "RUNNING")
            campaign.clock.now += LATER
            assert set(controller.round().decision.submit) == set(campaign.names)
            assert campaign.run.submissions()[0].read_digest() is None
            if told:
                job.ends.update(dict.fromkeys(job.ends, "CANCELLED"))
            else:
                campaign.clock.now += LATER
            campaign.cluster.lose_all("NODE_FAIL")
            outcome = controller.round().decision.outcome
            digest = campaign.run.submissions()[0].read_digest()
            assert digest is not None
            assert (digest.silent, outcome) == ((0, "running") if told else (4, "stuck"))

    def test_tasks_that_end_by_themselves_still_count(self, tmp_path: Path) -> None:
        """A broken environment is found although somebody has cancelled a task of it."""
        campaign = Campaign(tmp_path, 4)
        controller = campaign.controller()
        controller.round()
        (job,) = campaign.cluster.living()
        for element, how in enumerate(("CANCELLED", "FAILED", "FAILED", "FAILED")):
            campaign.cluster._log(job, element, element, "python: command not found")
            campaign.cluster.lose(job, element, how)
        assert "3 tasks exited before starting work" in controller.round().decision.diagnosis


class TestStorage:
    FULL = Try("0", "machine", problem="0: x: No space left on device", storage="full")

    def fail(self, campaign: Campaign) -> None:
        for job in campaign.cluster.living():
            for element in list(job.alive):
                campaign.cluster.end(job, element, self.FULL)

    def test_a_full_disk_needs_nobody(self, tmp_path: Path) -> None:
        """Rounds of cron submit nothing for a while, are stuck when it lasts, and go on by themselves to the end."""
        campaign = Campaign(tmp_path, 4)
        seen = campaign.controller().round()
        for times in range(1, STORAGE_ROUNDS + 1):
            assert seen.submitted.submissions == (times,)
            self.fail(campaign)
            seen = campaign.controller().round()
            assert (seen.submitted.submissions, seen.decision.quarantine, seen.decision.exclude) == ((), {}, {})
            assert f"no room on {campaign.run.output_dir}" in seen.decision.diagnosis
            assert seen.decision.outcome == ("stuck" if times == STORAGE_ROUNDS else "running")
            campaign.clock.now += pause_s(times)
            seen = campaign.controller().round()
        assert drive(campaign).decision.outcome == "finished"

    def test_who_begins_to_watch_does_not_wait(self, tmp_path: Path) -> None:
        """A person who has made room; when there is none after all, the watch waits as others do."""
        campaign = Campaign(tmp_path, 4)
        campaign.controller().round()
        self.fail(campaign)
        assert campaign.controller().round().submitted.submissions == ()
        campaign.clock.now += 1
        watch = Controller(campaign.run, campaign.cluster, campaign.launch, host=HOST, clock=campaign.clock, anew=True)
        assert watch.round().submitted.submissions == (2,)
        self.fail(campaign)
        assert watch.round().submitted.submissions == ()

    def test_tasks_that_start_on_a_full_disk(self, tmp_path: Path) -> None:
        """Empty logs and no reports, of however many tasks."""
        campaign = Campaign(tmp_path, 14)
        for _ in range(3):
            campaign.controller().round()
            for job in campaign.cluster.living():
                for element in list(job.alive):
                    campaign.cluster._log(job, element, element, "")
                    campaign.cluster.lose(job, element, "FAILED")
            assert campaign.controller().round().decision.outcome == "running"
            campaign.clock.now += 600
        assert drive(campaign).decision.outcome == "finished"

    def test_history_goes_on_behind_a_cut_line(self, tmp_path: Path) -> None:
        """What a full disk has cut is lost, and nothing else."""
        campaign = Campaign(tmp_path, 2)
        campaign.run.history_file.write_bytes(b'{"outcome": "runn')
        campaign.controller().round()
        cut, line = campaign.run.history_file.read_bytes().splitlines()
        assert cut == b'{"outcome": "runn'
        assert msgspec.json.decode(line)["submitted"] == [1]


class TestTwoControllers:
    def test_the_other_one_waits(self, tmp_path: Path, neighbour: subprocess.Popen[bytes]) -> None:
        """While one controller is in a round, another touches nothing and asks nobody; later it takes its turn."""
        campaign = Campaign(tmp_path, 2)
        lock = campaign.run.folder / "round.lock"
        put(lock, claim_of(neighbour))
        with pytest.raises(LockHeldError, match=str(neighbour.pid)):
            campaign.controller().round()
        assert campaign.cluster.calls == []
        assert campaign.run.submissions() == []
        lock.unlink()
        assert drive(campaign).decision.outcome == "finished"

    def test_controller_that_was_killed_in_its_round(self, tmp_path: Path, neighbour: subprocess.Popen[bytes]) -> None:
        """Its lock keeps nobody out: its process is gone."""
        campaign = Campaign(tmp_path, 1)
        put(campaign.run.folder / "round.lock", claim_of(neighbour))
        neighbour.kill()
        neighbour.wait()
        assert drive(campaign).decision.outcome == "finished"

    def test_two_that_take_turns(self, tmp_path: Path) -> None:
        """Cron beside a watch: both come to the same, and no tar is submitted twice."""
        campaign = Campaign(tmp_path, 4, FakeCluster(array_limit=2))
        both = [campaign.controller(), campaign.controller()]
        for _ in range(2):
            for controller in both:
                controller.round()
            campaign.cluster.run(campaign.cluster.living()[0], 0)
            campaign.cluster.lose_all()
            campaign.clock.now += LATER
        assert drive(campaign).decision.outcome == "finished"


def story(campaign: Campaign) -> None:
    """Three rounds in which every step of a round happens: two arrays, an answer that is lost, a death, an end."""
    controller = campaign.controller()
    controller.round()
    for job in campaign.cluster.living():
        campaign.cluster.lose(job, 0, "NODE_FAIL")
    campaign.cluster.answers = ["kept"]
    controller.round()
    campaign.clock.now += LATER
    campaign.cluster.run_all()
    controller.round()


def steps_of_the_story(tmp_path_factory: pytest.TempPathFactory) -> int:
    campaign = Campaign(tmp_path_factory.mktemp("counted"), 3, FakeCluster(array_limit=2))
    ops = campaign.cluster.ops = CrashingOps()
    with control_through(ops):
        story(campaign)
    return ops.count


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_controller_killed_at_every_step(tmp_path_factory: pytest.TempPathFactory, after: bool) -> None:
    """Killed before or after any file operation and any call to Slurm, then started again with nothing but the files: no
    tar is submitted while a task of it lives, none is lost, nothing counts against anyone, and the bytes are the same.
    """
    steps = steps_of_the_story(tmp_path_factory)
    assert steps > 60
    expected: dict[str, bytes] | None = None
    for step in range(steps):
        campaign = Campaign(tmp_path_factory.mktemp("killed"), 3, FakeCluster(array_limit=2))
        ops = campaign.cluster.ops = CrashingOps(step, after=after)
        with control_through(ops), pytest.raises(SimulatedCrash):
            story(campaign)
        campaign.cluster.ops = CrashingOps()
        before = set(campaign.cluster.tars())
        seen = campaign.controller().round()  # at once: what was submitted is known, or waited for
        assert before <= set(campaign.cluster.tars()), step
        assert seen.decision.outcome in ("running", "finished"), step
        campaign.clock.now += LATER
        end = drive(campaign)
        assert end.decision.outcome == "finished", step
        assert end.decision.quarantine == {}
        found = {
            name: data.replace(str(campaign.run.output_dir.parent).encode(), b"@")
            for name, data in campaign.committed().items()
        }
        expected = expected or found
        assert found == expected, step


def test_what_a_living_task_has_given_up_is_not_kept_waiting_for_its_end(tmp_path: Path) -> None:
    """A task that goes on after a clip has killed its worker tries that tar no more: another task may, at once."""
    campaign = Campaign(tmp_path, 2, tars_per_gpu=2)
    controller = campaign.controller()
    controller.round()
    tried = [Try("0", "died", gained=3, clip=3), Try("1", "working")]
    write_progress(campaign.run.submissions()[0].report_file(0), Progress(node="n1", tries=tried))
    campaign.cluster.begin(campaign.cluster.living()[0], 0)
    assert controller.round().decision.submit == ("0",)
    assert controller.round().decision.submit == ()
