"""A cluster in memory for the control plane: tests decide what it answers, and which tasks run, fail or vanish.

Plans, intents, reports and results are real files. What must hold at every submission is checked where it is made: plan and
intent are on disk, the name is new, and no tar is planned that a task which may be alive has already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import pytest

from audio_tokenizers.errors import Tar2TokensError
from hpc.cluster import JobNumber, JobSeen, SubmitLimitError, SubmitRefusedError, SubmitUncertainError, TaskSeen
from hpc.controller import Controller
from hpc.launch import Launch
from hpc.plan import Plan
from hpc.run import Run, RunState
from hpc.submissions import Job, Submission
from hpc.task_id import TaskId
from jobs.progress import Ending, Progress, ProgressFile, Try, write_progress
from jobs.signals import StopFlag
from jobs.spec import freeze_spec, read_spec
from jobs.worker import Crew, run_tars
from support.crashing import CrashingOps
from support.small_run import mulaw_spec, small_tar

HOST = "login"

Result = TypeVar("Result")

Answer = Literal["submit", "lost", "kept", "refuse", "lie"]
"""What sbatch does: `lost` and `kept` both give no answer, `refuse` and `lie` refuse, and only the second of each two has
submitted.
"""


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class QueuedJob:
    """An array in the queue."""

    job_id: str
    submission: Submission
    plan: Plan
    job: Job
    exclude: tuple[str, ...]
    alive: dict[int, TaskSeen] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)

    @property
    def tars(self) -> list[str]:
        """Names of the tars that its tasks which may be alive have."""
        return [
            task.name for element in self.alive for slot in self.plan.slots_of(element) for task in self.plan.slots[slot]
        ]


class FakeCluster:
    """Keeps the protocol of hpc.cluster.Cluster."""

    def __init__(self, *, array_limit: int = 1000, queue_limit: int | None = None) -> None:
        self.array_limit = array_limit
        self.queue_limit = queue_limit
        self.jobs: dict[str, QueuedJob] = {}
        self.answers: list[Answer] = []
        """Of the next calls of sbatch, in order; afterwards it submits."""
        self.accounts = True
        """There is a sacct."""
        self.takes = ""
        """Which of the site's clusters takes the jobs."""
        self.refusal = "Invalid partition name specified"
        """What it says when it refuses."""
        self.blind = False
        """squeue fails."""
        self.silent = False
        """scontrol fails."""
        self.hidden: set[str] = set()
        """Names of jobs that squeue does not show yet."""
        self.calls: list[str] = []
        self.avoided: list[tuple[list[str], list[str]]] = []
        self.ops = CrashingOps()
        """Of the controller at work; dies where a test says, and takes the cluster's answers with it."""

    def _answer(self, ask: Callable[[], Result]) -> Result:
        """A call of Slurm, which the controller's death may precede or follow, whatever the answer is."""

        def call() -> Result | Tar2TokensError:
            try:
                return ask()
            except Tar2TokensError as error:
                return error

        found = self.ops._step(call)
        if isinstance(found, Tar2TokensError):
            raise found
        return found

    def max_array(self, launch: Launch) -> int:
        if self.silent:
            raise SubmitUncertainError("scontrol: no answer")
        return self.array_limit

    def slots(self, launch: Launch, tars: int) -> None:
        return None

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        self.calls.append("look")
        return self._answer(lambda: self._look(jobs))

    def _look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        if self.blind:
            return {}
        found: dict[int, JobSeen | None] = {}
        for number, (_, job) in jobs.items():
            queued = self.jobs.get(job.name)
            shown = queued if queued is not None and queued.alive and job.name not in self.hidden else None
            found[number] = JobSeen(shown.job_id, dict(shown.alive)) if shown else None
        return found

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        self.calls.append("submit")
        return self._answer(lambda: self._submit(submission, job, exclude))

    def _submit(self, submission: Submission, job: Job, exclude: Collection[str]) -> JobNumber:
        plan = submission.read_plan()
        assert plan is not None
        assert submission.read_job() == job
        assert job.state == "intended"
        assert job.name not in self.jobs
        answer = self.answers.pop(0) if self.answers else "submit"
        if answer == "refuse":
            raise SubmitRefusedError(f"sbatch refused the job: {self.refusal}")
        if self.queue_limit is not None and self.in_queue() + job.elements > self.queue_limit:
            raise SubmitLimitError("AssocMaxSubmitJobLimit")
        if answer == "lost":
            raise SubmitUncertainError("sbatch: Socket timed out")
        queued = QueuedJob(str(len(self.jobs) + 1), submission, plan, job, tuple(exclude))
        queued.alive = dict.fromkeys(range(job.elements), TaskSeen("PENDING", "", "Priority"))
        twice = set(queued.tars) & {name for other in self.jobs.values() for name in other.tars}
        for other in self.jobs.values():  # but for what a task has given up and goes on without
            reports = other.submission.reports(range(len(other.plan.slots))).values()
            twice -= {attempt.name for report in reports for attempt in report.tries if attempt.outcome == "died"}
        assert not twice, f"{twice} submitted again while a task lives"
        self.jobs[job.name] = queued
        if answer == "lie":
            raise SubmitRefusedError("sbatch refused the job: site wrapper: disk quota exceeded")
        if answer == "kept":
            raise SubmitUncertainError("sbatch: Socket timed out")
        return JobNumber(queued.job_id, self.takes)

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        self.calls.append("explain")
        known = {number: job.name for number, job in jobs.items() if job.name in self.jobs and self.accounts}
        return self._answer(lambda: {number: dict(self.jobs[name].ends) for number, name in known.items()})

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        self.calls.append("avoid")
        self.avoided.append(([job.name for job in jobs], sorted(nodes)))

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        for _, job in jobs.values():
            self.jobs[job.name].alive.clear()

    def in_queue(self) -> int:
        """Array tasks that have not ended."""
        return sum(len(job.alive) for job in self.jobs.values())

    def may_run(self) -> int:
        """How many of them may run at once."""
        return sum(min(job.job.parallel, len(job.alive)) for job in self.jobs.values())

    def tars(self) -> list[str]:
        """Names of the tars that tasks have which may be alive."""
        return sorted(name for job in self.jobs.values() for name in job.tars)

    def living(self) -> list[QueuedJob]:
        """Jobs with tasks, oldest first."""
        return [job for job in self.jobs.values() if job.alive]

    def begin(self, job: QueuedJob, element: int, node: str = "n1") -> None:
        """A task starts, and has nothing to tell yet."""
        job.alive[element] = TaskSeen("RUNNING", node)

    def run(self, job: QueuedJob, element: int, node: str = "n1") -> None:
        """A task starts, does all its work, here and now, and ends."""
        output_dir = job.submission.folder.parents[2]
        spec = read_spec(output_dir)
        assert spec is not None
        for slot in job.plan.slots_of(element):
            self._log(job, element, slot, "done")
            crew = Crew(str(TaskId(job.plan.submission, slot)), job.plan.knows_gone)
            reports = ProgressFile(job.submission.report_file(slot), progress=Progress(node=node))
            run_tars(job.plan.slots[slot], spec, output_dir, device="cpu", stop=StopFlag(), reports=reports, crew=crew)
        self.lose(job, element, "COMPLETED")

    def run_all(self, node: str = "n1") -> None:
        """All tasks in the queue, one after the other."""
        for job in self.living():
            for element in list(job.alive):
                self.run(job, element, node)

    def end(self, job: QueuedJob, element: int, *tries: Try, node: str = "n1", log: str = "last words") -> None:
        """A task ends in a way of the test's choice: these are its tries, the same for each of its workers."""
        for slot in job.plan.slots_of(element):
            self._log(job, element, slot, log)
            write_progress(job.submission.report_file(slot), Progress(node=node, tries=list(tries)))
        self.lose(job, element, "FAILED")

    def end_all(self, outcome: Ending, node: str = "n1", problem: str = "") -> None:
        """Every task tries the first of its tars, and ends in this way."""
        for job in self.living():
            for element in list(job.alive):
                first = job.plan.slots[job.plan.slots_of(element)[0]][0]
                self.end(job, element, Try(first.name, outcome, problem=problem), node=node)

    def lose(self, job: QueuedJob, element: int, how: str = "") -> None:
        """A task is gone; `how` is what the accounts say."""
        del job.alive[element]
        if how:
            job.ends[element] = how

    def lose_all(self, how: str = "") -> None:
        """All tasks are gone, without a word from them."""
        for job in self.living():
            for element in list(job.alive):
                self.lose(job, element, how)

    def _log(self, job: QueuedJob, element: int, slot: int, text: str) -> None:
        path = job.submission.log_file(job.job_id, element, slot % job.plan.processes)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


def slurm_launch(**settings: Any) -> Launch:
    """A launch on Slurm, of the mulaw backend on CPUs."""
    return Launch(**{"cluster": "slurm", "device": "cpu", "gpus_per_node": 0, **settings})


class Campaign:
    """A run of small tars, a fake cluster, and controllers that come and go."""

    def __init__(self, folder: Path, tars: int, cluster: FakeCluster | None = None, **settings: Any) -> None:
        self.run = Run(folder / "tokens")
        self.cluster = cluster or FakeCluster()
        self.clock = FakeClock()
        self.launch = slurm_launch(**settings)
        self.tars = [small_tar(folder / "data" / f"{number}.tar", clips=3) for number in range(tars)]
        self.names = [tar.stem for tar in self.tars]
        freeze_spec(self.run.output_dir, mulaw_spec())
        self.run.add_to_list([str(tar) for tar in self.tars], keep_dirs=False)
        self.run.write_state(RunState(run_id="abc", launch=self.launch))

    def controller(self) -> Controller:
        """A controller that knows nothing but the files."""
        return Controller(self.run, self.cluster, self.launch, host=HOST, clock=self.clock)

    def change_state(self, **changes: Any) -> None:
        """Say something of the run, as commands of people do."""
        self.run.write_state(msgspec.structs.replace(self.run.read_state(), **changes))

    def committed(self) -> dict[str, bytes]:
        """Name -> content of what is committed."""
        return {path.stem: path.read_bytes() for path in self.run.output_dir.glob("*.jsonl")}


@contextmanager
def control_through(ops: CrashingOps) -> Iterator[None]:
    """Have every durable write of the control plane go through `ops` within this block; a worker's own do not."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lock", "run", "submissions", "controller"):
            patch.setattr(f"hpc.{module}.FileOps", lambda: ops)
        yield
