"""hpc/local_cluster.py: processes of one machine, seen, stopped and killed by whoever comes, be it not who started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support.runs import committed_bytes, lines_of, slow_backend, slow_spec, wait_for, worker_pids
from support.small_run import small_tar, tokenize

from hpc import local_cluster
from hpc.cluster import JobNumber, JobSeen, TaskSeen
from hpc.launch import Launch
from hpc.local_cluster import LocalCluster, Placement, place_workers
from hpc.plan import make_plan
from hpc.run import Run
from hpc.submissions import Job, Submission
from jobs.claims import Claim, held_by_other, process_start, read_claim
from jobs.progress import Progress, read_progress, write_progress
from jobs.spec import freeze_spec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarTask

HERE = socket.gethostname()
LONG_AGO = 1000.0
BOTH = {1: JobSeen("local", {0: TaskSeen("RUNNING", HERE), 1: TaskSeen("RUNNING", HERE)})}
NONE = {1: JobSeen("local", {})}


class TestPlaces:
    def test_one_worker_per_gpu(self) -> None:
        """Each GPU gets a worker, and the workers share the cores."""
        assert place_workers(["0", "1"], None, 1, 16, tars=9) == [Placement("0", 8), Placement("1", 8)]

    def test_workers_share_gpus_evenly(self) -> None:
        """--procs-per-gpu fills each GPU once before any twice, so that --workers below that leaves none idle."""
        assert [place.gpu for place in place_workers(["0", "1"], None, 2, 8, tars=9)] == ["0", "1", "0", "1"]
        assert [place.gpu for place in place_workers(["0", "1"], 2, 2, 8, tars=9)] == ["0", "1"]

    def test_cpus(self) -> None:
        """Without GPUs there is a worker per core, or as many as asked for, even more than cores."""
        assert place_workers([], None, 1, 4, tars=9) == [Placement(None, 1)] * 4
        assert place_workers([], 8, 1, 4, tars=9) == [Placement(None, 1)] * 8

    def test_never_more_than_tars(self) -> None:
        """Few tars get few workers, which then have all cores."""
        assert place_workers([], None, 1, 8, tars=2) == [Placement(None, 4)] * 2
        assert place_workers(["0", "1"], None, 1, 8, tars=1) == [Placement("0", 8)]
        assert place_workers([], None, 1, 8, tars=0) == []

    def test_slots_are_those_of_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A plan for one machine has a slot per worker; a run on the CPU leaves GPUs alone."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        cluster = LocalCluster(HERE)
        gpus = Launch(cluster="local", device="cuda", gpus_per_node=0, procs_per_gpu=2)
        assert cluster.slots(gpus, 9) == 4
        assert [place.gpu for place in cluster.placements(gpus, 3)] == ["4", "7", "4"]
        assert cluster.slots(Launch(cluster="local", device="cpu", gpus_per_node=0, workers=3), 9) == 3
        mac = Launch(cluster="local", device="mps", gpus_per_node=0)
        assert [place.gpu for place in cluster.placements(mac, 9)] == ["mps"]
        assert cluster.slots(msgspec.structs.replace(mac, procs_per_gpu=6), 9) == 6


class LocalRun:
    """A run of the backend `slow` with a submission of a tar per worker."""

    def __init__(self, folder: Path, *, tars: int = 2, clips: int = 300, pause: float = 0.3) -> None:
        env = slow_backend(folder / "site")
        self.output = folder / "it's a run" / "tokens"
        self.tars = [small_tar(folder / f"{n}.tar", clips=clips, samples=40 + 1000 * n) for n in range(tars)]
        spec = slow_spec(folder / "site", pause=pause)
        freeze_spec(self.output, spec)
        self.submission: Submission = Run(self.output).new_submission()
        slots = [(TarTask(str(tar), tar.stem, tar.stat().st_size),) for tar in self.tars]
        self.submission.write_plan(make_plan(slots, spec, submission=1))
        self.launch = Launch(
            cluster="local",
            device="cpu",
            gpus_per_node=0,
            workers=tars,
            environment={name: env[name] for name in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")},
        )
        self.job = Job(name="j", elements=tars, parallel=tars, host=HERE, intended_at=time.time(), job_id="local")
        self.jobs = {1: (self.submission, self.job)}
        self.first = LocalCluster(HERE)

    def start(self) -> None:
        """Start the tasks, as the first controller."""
        assert self.first.submit(self.submission, self.launch, self.job, ()) == JobNumber("local")

    def has_ended(self) -> bool:
        return self.first.look(self.jobs) == NONE

    def outcomes(self) -> list[str]:
        reports = self.submission.reports(range(len(self.tars))).values()
        return [attempt.outcome for report in reports for attempt in report.tries]


@pytest.fixture
def local_run(tmp_path: Path) -> Iterator[LocalRun]:
    run = LocalRun(tmp_path)
    yield run
    run.first.kill(run.jobs)
    wait_for(run.has_ended)
    for child in run.first._children:
        child.wait()


class TestWithoutProc:
    def test_tasks_are_found_by_ps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a Mac there is no /proc: ps shows the same tasks, with spaces in their paths, and no other program."""
        monkeypatch.setattr(local_cluster, "PROC", tmp_path)
        plan = tmp_path / "a run" / "plan.json"
        words = ["-c", "input()", "hpc.task", str(plan), "--elements", "4", "--element", "3", "--gpu", "mps"]
        with subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE) as process:
            found = [task for task in local_cluster._task_processes() if task.plan_file == str(plan)]
            assert [(task.pid, task.uid, task.element) for task in found] == [(process.pid, os.getuid(), 3)]
            process.communicate(b"\n")


class TestProcesses:
    @pytest.mark.slow
    def test_seen_and_stopped_by_who_did_not_start_them(self, local_run: LocalRun) -> None:
        """Tasks that an earlier controller has started are found by a later one, which can have them yield."""
        second = LocalCluster(HERE)
        local_run.start()
        wait_for(lambda: lines_of(local_run.output) > 3)
        assert second.look(local_run.jobs) == local_run.first.look(local_run.jobs) == BOTH
        second.cancel(local_run.jobs)
        wait_for(local_run.has_ended)
        assert local_run.outcomes() == ["yielded", "yielded"]
        assert worker_pids(local_run.output) == []
        assert [path.name for path in local_run.submission.logs.iterdir()] != []
        for element, _, log_file in local_run.submission.log_files():
            assert "yielded" in log_file.read_text(), element

    @pytest.mark.slow
    def test_killed_by_who_did_not_start_them(self, local_run: LocalRun) -> None:
        """Killed tasks blame no clip and no tar; their partials and their claims are such as the next may take over."""
        local_run.start()
        wait_for(lambda: lines_of(local_run.output) > 3)
        LocalCluster(HERE).kill(local_run.jobs)
        wait_for(local_run.has_ended)
        assert local_run.outcomes() == ["working", "working"]
        mine = Claim.of_this_process("x")
        for tar in local_run.tars:
            holder = read_claim(TarPaths(local_run.output, tar.stem).claim)
            assert holder is not None
            # A dying process has no command line any more, which is what `has_ended` looks for, a moment before it is dead.
            wait_for(partial(lambda holder: process_start(holder.pid) != holder.started, holder))
            assert not held_by_other(holder, mine)

    @pytest.mark.slow
    def test_to_the_end(self, tmp_path: Path) -> None:
        """Left alone, tasks end by themselves, leave no zombies, and what they commit is what one worker would."""
        run = LocalRun(tmp_path, clips=5, pause=0.0)
        run.start()
        wait_for(run.has_ended)
        for tar in run.tars:
            tokenize(tar, tmp_path / "reference")
        assert committed_bytes(run.output) == committed_bytes(tmp_path / "reference")
        wait_for(lambda: run.has_ended() and all(child.returncode is not None for child in run.first._children))

    @pytest.mark.slow
    def test_a_worker_dies_with_its_witness(self, local_run: LocalRun) -> None:
        """Nobody is left who would end it if it hangs, and its claim would be held for ever; it counts against nobody."""
        cluster = local_run.first
        local_run.start()
        wait_for(lambda: lines_of(local_run.output) > 3)
        (witness,) = [child.pid for child in cluster._children if f"--element\0{0}" in arguments_of(child.pid)]
        os.kill(witness, signal.SIGKILL)
        wait_for(lambda: cluster.look(local_run.jobs) == {1: JobSeen("local", {1: BOTH[1].tasks[1]})})
        cluster.cancel(local_run.jobs)
        wait_for(local_run.has_ended)
        assert local_run.outcomes() == ["working", "yielded"]

    def test_nothing_is_started_after_an_interruption(self, local_run: LocalRun) -> None:
        """Ctrl-C while tasks are being started starts no more of them."""
        local_run.first = LocalCluster(HERE, lambda: True)
        local_run.start()
        assert local_run.has_ended()

    @pytest.mark.slow
    def test_other_submissions_are_left_alone(self, local_run: LocalRun) -> None:
        """Orders and questions reach the tasks of the submissions that they name, and no others."""
        cluster = local_run.first
        local_run.start()
        other = {2: (Run(local_run.output).new_submission(), local_run.job)}
        assert cluster.look(other) == {2: JobSeen("local", {})}
        cluster.kill(other)
        cluster.cancel(other)
        wait_for(lambda: lines_of(local_run.output) > 10)
        assert cluster.look(local_run.jobs) == BOTH


def arguments_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@contextmanager
def pretender(*words: str) -> Iterator[None]:
    """A process that is no task, with these words after its own."""
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()", *words], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has its command line
        try:
            yield
        finally:
            process.kill()


class TestPretenders:
    """Anyone on the machine may start a process with any command line."""

    @pytest.mark.parametrize(
        "words", [(), ("--element",), ("--element", "x"), ("/plan.json", "--element", "²"), ("/p", "--element", "9" * 5000)]
    )
    def test_command_lines_that_make_no_sense(self, local_run: LocalRun, words: tuple[str, ...]) -> None:
        """They neither end the controller nor count as tasks."""
        with pretender("hpc.task", *words):
            assert local_run.has_ended()
            local_run.first.cancel(local_run.jobs)

    def test_another_users(self, local_run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process counts as a task, and gets its signals, only if it is of the user who submitted."""
        words = ("hpc.task", str(local_run.submission.plan_file), "--element", "0")
        with pretender(*words), monkeypatch.context() as patch:
            assert local_run.first.look(local_run.jobs) == {1: JobSeen("local", {0: TaskSeen("RUNNING", HERE)})}
            patch.setattr("hpc.local_cluster._owner", lambda _submission: os.geteuid() + 1)
            assert local_run.has_ended()
            killed: list[int] = []
            patch.setattr(os, "kill", lambda pid, _number: killed.append(pid))
            local_run.first.kill(local_run.jobs)
            assert killed == []


class TestUnknown:
    def jobs(self, tmp_path: Path, host: str, job_id: str = "local") -> dict[int, tuple[Submission, Job]]:
        submission = Run(tmp_path).new_submission()
        job = Job(name="j", elements=1, parallel=1, host=host, intended_at=0.0, job_id=job_id)
        submission.write_job(job)
        return {1: (submission, job)}

    def test_an_intent_that_came_to_nothing(self, tmp_path: Path) -> None:
        """Of a job that was never started nobody has heard; one that was, and has ended, is known."""
        assert LocalCluster(HERE).look(self.jobs(tmp_path, HERE, job_id="")) == {1: None}
        assert LocalCluster(HERE).look(self.jobs(tmp_path, HERE)) == NONE

    def test_another_machines_tasks_are_unknown_until_they_are_silent(self, tmp_path: Path) -> None:
        """On a shared folder the tasks of another host can only be judged by their reports: long silent is gone."""
        jobs = self.jobs(tmp_path, "elsewhere")
        submission, _ = jobs[1]
        cluster = LocalCluster(HERE)
        assert cluster.look(jobs) == {}
        age(submission.job_file)
        assert cluster.look(jobs) == NONE
        for slot in (0, 1):
            write_progress(submission.report_file(slot), Progress())
        assert cluster.look(jobs) == {}
        age(submission.report_file(0))
        assert cluster.look(jobs) == {}
        age(submission.report_file(1))
        assert cluster.look(jobs) == NONE
        assert read_progress(submission.report_file(1)) == Progress()


def age(path: Path) -> None:
    """As if it had last been touched long ago."""
    moment = path.stat().st_mtime - LONG_AGO
    os.utime(path, (moment, moment))


def test_nobody_keeps_accounts(tmp_path: Path) -> None:
    """There is nobody to explain an end, and no other node to avoid or to run out of elements on."""
    cluster = LocalCluster(HERE)
    job = Job(name="j", elements=1, parallel=1, host=HERE, intended_at=0.0)
    assert cluster.explain({1: job}) == {}
    cluster.avoid([job], ["n1"])
    assert cluster.max_array(Launch(cluster="local", device="cpu", gpus_per_node=0)) >= 100_000
