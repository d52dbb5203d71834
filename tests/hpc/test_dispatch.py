"""hpc/dispatch.py: what is left becomes arrays, within the site's limits, and each is on disk before sbatch hears of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fake_cluster import HOST, Campaign, FakeCluster, slurm_launch
from support.small_run import mulaw_spec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.dispatch import InQueue, Submitted, Submitter, bytes_per_second
from hpc.local_cluster import LocalCluster
from hpc.plan import make_plan
from hpc.policy import Decision
from hpc.progress import TarState, scan
from jobs.manifest import Manifest
from jobs.progress import Try
from jobs.tar_task import TarTask

EMPTY = InQueue(alive={}, elements=0, may_run=0)


def submitter_of(campaign: Campaign, **settings: object) -> Submitter:
    """A submitter, as a controller has one."""
    launch = msgspec.structs.replace(campaign.launch, **settings)
    return Submitter(campaign.run, campaign.cluster, launch, host=HOST, clock=campaign.clock)


def submit(campaign: Campaign, submitter: Submitter, queue: InQueue = EMPTY, **decided: Any) -> Submitted:
    """Submit all tars of the campaign, or what `decided` says."""
    decision = Decision(**{"outcome": "running", "submit": tuple(campaign.names), **decided})
    listed = campaign.run.listed()
    return submitter.submit("abc", decision, listed, list(scan(campaign.run, listed)), queue)


def sizes(campaign: Campaign) -> list[int]:
    """Elements of the arrays that were submitted, in order."""
    return [job.job.elements for job in campaign.cluster.jobs.values()]


class TestArrays:
    def test_cut_to_the_sites_largest_array(self, tmp_path: Path) -> None:
        """No array is larger than the site allows; together they have every tar once."""
        campaign = Campaign(tmp_path, 7, FakeCluster(array_limit=3))
        assert submit(campaign, submitter_of(campaign)) == Submitted((1, 2, 3), 0)
        assert sizes(campaign) == [3, 3, 1]
        assert campaign.cluster.tars() == campaign.names

    def test_whole_nodes(self, tmp_path: Path) -> None:
        """A task has a slot for each of its worker processes, so arrays have as many tasks as that takes."""
        campaign = Campaign(tmp_path, 7, FakeCluster(array_limit=1))
        submit(campaign, submitter_of(campaign, gpus_per_node=2, procs_per_gpu=2))
        assert sizes(campaign) == [1, 1]
        assert [len(job.plan.slots) for job in campaign.cluster.jobs.values()] == [4, 3]
        assert campaign.cluster.tars() == campaign.names

    def test_tars_per_gpu(self, tmp_path: Path) -> None:
        """Several tars per worker make fewer tasks."""
        campaign = Campaign(tmp_path, 7)
        submit(campaign, submitter_of(campaign, tars_per_gpu=3))
        assert sizes(campaign) == [3]

    def test_names_are_unique_and_tell_the_run(self, tmp_path: Path) -> None:
        """A job's name is the run's and the submission's: that is how a lost answer is looked up."""
        campaign = Campaign(tmp_path, 2, FakeCluster(array_limit=1))
        submit(campaign, submitter_of(campaign))
        assert list(campaign.cluster.jobs) == ["tar2tokens-abc-0001", "tar2tokens-abc-0002"]

    def test_plan_says_what_was_decided(self, tmp_path: Path) -> None:
        """Crash clips, retried errors, options, limits and who lives: a task needs nothing but its plan."""
        campaign = Campaign(tmp_path, 2)
        feeding = {"decode_threads": 3, "buffer_memory": 10**9, "memory_guard": 0.8, "clip_timeout": 60.0}
        submitter = submitter_of(
            campaign,
            time_limit_min=2,
            options={"pause": 0.5},
            allow_missing_end=True,
            allow_joined=True,
            allow_pipe=True,
            **feeding,
        )
        submit(
            campaign,
            submitter,
            InQueue({7: [1, 0]}, 2, 2),
            crash_clips={"1": (3, 4)},
            timed_out={"1": (4,)},
            exclude={"bad": "why"},
        )
        (job,) = campaign.cluster.jobs.values()
        plan = job.plan
        assert {task.name: task.crash_clips for slot in plan.slots for task in slot} == {"0": (), "1": (3, 4)}
        assert {task.name: task.timed_out for slot in plan.slots for task in slot} == {"0": (), "1": (4,)}
        assert (plan.time_limit_s, plan.options) == (120.0, {"pause": 0.5})
        assert (plan.allow_missing_end, plan.allow_joined, plan.allow_pipe) == (True, True, True)
        assert (plan.decode_threads, plan.buffer_memory) == (3, 10**9)
        assert (plan.memory_guard, plan.clip_timeout) == (0.8, 60.0)
        assert plan.alive == {7: (0, 1)}
        assert plan.fingerprint == mulaw_spec().fingerprint
        assert job.exclude == ("bad",)

    def test_tars_that_need_too_much_memory_come_last(self, tmp_path: Path) -> None:
        """In a worker's list they stand behind all others, which would else never get their turn."""
        campaign = Campaign(tmp_path, 4)
        submit(campaign, submitter_of(campaign, tars_per_gpu=4), short_of_memory=("0", "2"), one_at_a_time=("0", "2"))
        (job,) = campaign.cluster.jobs.values()
        assert [[task.name for task in slot] for slot in job.plan.slots] == [["1", "3", "0", "2"]]
        assert [task.one_at_a_time for task in job.plan.slots[0]] == [False, False, True, True]

    def test_arrays_of_one_round_know_each_other(self, tmp_path: Path) -> None:
        """The second array of a round knows that the tasks of the first may be alive."""
        campaign = Campaign(tmp_path, 4, FakeCluster(array_limit=2))
        submit(campaign, submitter_of(campaign))
        second = list(campaign.cluster.jobs.values())[1].plan
        assert not second.knows_gone("0001/0")
        assert not second.knows_gone("0001/1")

    def test_plan_never_changes(self, tmp_path: Path) -> None:
        """A folder that another command has taken is left to it: its plan is not written over."""
        campaign = Campaign(tmp_path, 1)
        submission = campaign.run.new_submission()
        plan = make_plan([(TarTask("/a.tar", "a", 1),)], mulaw_spec(), submission=1)
        submission.write_plan(plan)
        with pytest.raises(InfrastructureError, match="another command took this submission"):
            submission.write_plan(plan)
        assert submit(campaign, submitter_of(campaign)).submissions == (2,)

    def test_nothing_to_submit(self, tmp_path: Path) -> None:
        """Then nothing is written either."""
        campaign = Campaign(tmp_path, 1)
        assert submit(campaign, submitter_of(campaign), submit=()) == Submitted()
        assert campaign.run.submissions() == []

    def test_spec_that_is_gone(self, tmp_path: Path) -> None:
        """Without its frozen spec a run submits nothing, and says what to do."""
        campaign = Campaign(tmp_path, 1)
        campaign.run.spec_file.unlink()
        with pytest.raises(UsageError, match="restore it"):
            submit(campaign, submitter_of(campaign))
        assert campaign.cluster.jobs == {}


class TestSubmitLimits:
    def test_halving_until_it_fits(self, tmp_path: Path) -> None:
        """A queue that takes five of eight tasks gets as many as halving finds; the rest waits. That is no error."""
        campaign = Campaign(tmp_path, 8, FakeCluster(queue_limit=5))
        answer = submit(campaign, submitter_of(campaign))
        assert sizes(campaign) == [4, 1]
        assert answer.waiting == 3
        assert len(campaign.cluster.tars()) == 5

    def test_full_queue_is_not_asked_again_until_it_has_room(self, tmp_path: Path) -> None:
        """While as many tasks wait as when Slurm took no more, sbatch is not called; when one has ended, it is."""
        campaign = Campaign(tmp_path, 4, FakeCluster(queue_limit=2))
        controller = campaign.controller()
        controller.round()
        assert campaign.cluster.in_queue() == 2
        campaign.cluster.calls.clear()
        for _ in range(3):
            assert controller.round().submitted.waiting == 2
        assert "submit" not in campaign.cluster.calls
        campaign.cluster.run(campaign.cluster.living()[0], next(iter(campaign.cluster.living()[0].alive)))
        controller.round()
        assert campaign.cluster.in_queue() == 2

    def test_limit_of_nothing_at_all(self, tmp_path: Path) -> None:
        """A queue that is full of others' jobs: the run waits, asks now and then, and goes on when it has room."""
        campaign = Campaign(tmp_path, 2, FakeCluster(queue_limit=0))
        controller = campaign.controller()
        for _ in range(5):
            seen = controller.round()
            assert (seen.decision.outcome, seen.submitted.waiting) == ("running", 2)
        assert len(campaign.run.submissions()) == 1, "a new controller knows too that there was no room a moment ago"
        campaign.cluster.queue_limit = 9
        campaign.clock.now += 600
        assert campaign.controller().round().submitted.waiting == 0

    def test_whole_list_through_a_narrow_queue(self, tmp_path: Path) -> None:
        """Every tar gets its task in the end, and none gets two at once."""
        campaign = Campaign(tmp_path, 9, FakeCluster(array_limit=4, queue_limit=3))
        controller = campaign.controller()
        for _ in range(30):
            if controller.round().decision.outcome == "finished":
                break
            for job in campaign.cluster.living()[:1]:
                campaign.cluster.run(job, next(iter(job.alive)))
        assert set(campaign.committed()) == set(campaign.names)

    def test_limit_that_nobody_tells(self, tmp_path: Path) -> None:
        """Without the site's largest array nothing is guessed: the tars wait, and nothing is written."""
        campaign = Campaign(tmp_path, 2)
        campaign.cluster.silent = True
        assert submit(campaign, submitter_of(campaign)) == Submitted(waiting=2, why="scontrol: no answer")
        assert campaign.run.submissions() == []

    def test_uncertain_answer_ends_the_round(self, tmp_path: Path) -> None:
        """Where sbatch gives no answer, no further array is tried: the next one might be lost as well."""
        campaign = Campaign(tmp_path, 6, FakeCluster(array_limit=2))
        campaign.cluster.answers = ["submit", "lost"]
        assert submit(campaign, submitter_of(campaign)) == Submitted((1,), 4, "sbatch: Socket timed out")
        assert campaign.cluster.calls.count("submit") == 2
        job = campaign.run.submissions()[1].read_job()
        assert job is not None
        assert (job.state, job.words, job.answered_at) == ("intended", "sbatch: Socket timed out", campaign.clock.now)

    def test_clusters_are_written_down(self, tmp_path: Path) -> None:
        """Those that are asked before sbatch is, and the one that took the job when it has said so."""
        campaign = Campaign(tmp_path, 2, FakeCluster(array_limit=1), slurm={"clusters": "a,b"})
        campaign.cluster.answers = ["submit", "lost"]
        campaign.cluster.takes = "b"
        submit(campaign, submitter_of(campaign))
        jobs = [submission.read_job() for submission in campaign.run.submissions()]
        assert [job.cluster for job in jobs if job is not None] == ["b", "a,b"]


class TestMaxRunning:
    def test_one_array_throttled(self, tmp_path: Path) -> None:
        """--max-running lets Slurm hold the tasks back: all are in the queue, and no more are added."""
        campaign = Campaign(tmp_path, 5, max_running=2)
        controller = campaign.controller()
        controller.round()
        assert (campaign.cluster.in_queue(), campaign.cluster.may_run()) == (5, 2)
        campaign.cluster.lose(campaign.cluster.living()[0], 0)
        assert controller.round().submitted == Submitted(waiting=1, why="--max-running 2")

    @pytest.mark.slow
    def test_never_exceeded(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Whatever ends, fills up, lags or goes unanswered, no more than --max-running tasks may run at once."""
        for seed in range(40):
            luck = random.Random(seed)
            limit = luck.randint(1, 4)
            cluster = FakeCluster(array_limit=luck.randint(1, 5), queue_limit=luck.choice([None, 3, 4, 6]))
            campaign = Campaign(tmp_path_factory.mktemp("max"), 8, cluster, max_running=limit)
            controller = campaign.controller()
            for _ in range(12):
                cluster.blind = luck.random() < 0.2
                cluster.answers = [luck.choice(["submit", "submit", "kept", "lost"]) for _ in range(3)]
                controller.round()
                assert cluster.may_run() <= limit, seed
                for job in cluster.living():
                    for element in [number for number in job.alive if luck.random() < 0.3]:
                        first = job.plan.slots[element][0].name
                        cluster.end(job, element, Try(first, "working", gained=1))
                campaign.clock.now += luck.choice([1, 30, 100])
                controller = luck.choice([controller, campaign.controller()])


class TestOneMachine:
    def test_next_plan_waits_for_the_last_worker(self, tmp_path: Path) -> None:
        """On one machine workers help each other to the end of a submission; the next begins when all have ended."""
        campaign = Campaign(tmp_path, 2)
        submitter = submitter_of(campaign, cluster="local")
        assert submit(campaign, submitter, InQueue({1: [0]}, 1, 1)) == Submitted(
            waiting=2, why="for the workers of this machine to end"
        )
        assert campaign.run.submissions() == []
        submit(campaign, submitter, InQueue({1: []}, 0, 0))
        (job,) = campaign.cluster.jobs.values()
        assert (job.plan.time_limit_s, job.plan.processes) == (None, 1)

    def test_spread_over_the_workers_of_the_machine(self, tmp_path: Path) -> None:
        """A slot per worker, whatever --tars-per-gpu says: there is no time limit to fill."""
        campaign = Campaign(tmp_path, 5)
        launch = slurm_launch(cluster="local", workers=2, tars_per_gpu=1)
        submitter = Submitter(campaign.run, LocalCluster(HOST), launch, host=HOST, clock=campaign.clock)
        slots = submitter.plan_slots([TarTask(str(tar), tar.stem, 1) for tar in campaign.tars], None)
        assert sorted(len(slot) for slot in slots) == [2, 3]


def committed(size: int, wall: float) -> TarState:
    values = {"tar_file": "/a", "input_mtime_ns": 0, "fingerprint": "f", "attempt": "a"}
    manifest = msgspec.convert({**values, "input_bytes": size, "wall_seconds": wall}, Manifest)
    return TarState("/a", "a", "committed", 1, manifest, None)


def test_rate_of_the_manifests() -> None:
    """Bytes per second of worker time over all committed tars; none before there is one."""
    assert bytes_per_second([]) is None
    assert bytes_per_second([committed(100, 1.0), committed(500, 2.0)]) == 200.0


class TestAuto:
    def test_packs_once_there_is_a_rate(self, tmp_path: Path) -> None:
        """--tars-per-gpu auto begins with a tar per task, and fills the time limit once manifests show the rate."""
        campaign = Campaign(tmp_path, 6)
        submitter = submitter_of(campaign, tars_per_gpu="auto", time_limit_min=1)
        tasks = [TarTask(str(tar), tar.stem, tar.stat().st_size) for tar in campaign.tars]
        assert len(submitter.plan_slots(tasks, None)) == 6
        assert len(submitter.plan_slots(tasks, 1e9)) == 1

    def test_the_rest_waits_for_the_first_array(self, tmp_path: Path) -> None:
        """Until a tar is done, or a time limit has passed, or nothing is alive any more; then no tar waits."""
        campaign = Campaign(tmp_path, 6, FakeCluster(array_limit=2), tars_per_gpu="auto", time_limit_min=10)
        controller = campaign.controller()
        assert [controller.round().submitted.waiting for _ in range(3)] == [4, 4, 4]
        campaign.clock.now += 601
        assert controller.round().submitted.waiting == 2, "one more array is tried"
        campaign.cluster.run(campaign.cluster.living()[0], 0)
        assert controller.round().submitted.waiting == 0
