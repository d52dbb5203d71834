"""How a run stands, for those who only look: by its files, and by one question to the cluster. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from hpc.cluster import Cluster, JobSeen
from hpc.controller import CANCELLED, data_verdict, refused_words, wants_retry
from hpc.plan import Plan
from hpc.policy import Decision, TarFact, decide
from hpc.progress import TarState
from hpc.run import Run
from hpc.stalls import Still, read_stalls
from hpc.submissions import Job, Submission
from hpc.task_id import TaskId
from hpc.tries import Evidence, NodeTry
from jobs.claims import Claim, held_by_other, read_claims
from jobs.reporting import UNENDED, DeviceSeconds, Progress

__all__ = ["Running", "Worker", "ask", "judge_files", "why_stopped"]


class Worker(msgspec.Struct, frozen=True):
    """Who works on a tar."""

    task: str
    """SUBMISSION/SLOT; empty for a worker that a person started."""
    node: str

    def __str__(self) -> str:
        """`task 0003/12 on n2`."""
        return f"task {self.task} on {self.node}" if self.task else f"a worker started by hand on {self.node}"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The run's tasks that have not ended."""

    known: bool
    """The cluster has answered, or there was nothing to ask."""
    running: dict[str, int]
    """Node -> tasks."""
    pending: int
    reasons: dict[str, int]
    """Why tasks have not begun, in Slurm's words."""
    unknown: int = 0
    """Submissions of which nobody can tell now."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """What the tasks' devices have spent their time on, as far as they have reported."""
    stalls: tuple[Still, ...] = ()
    """Tasks that make no progress, those that have made none for the longest time first."""


def judge_files(run: Run, states: Sequence[TarState]) -> Decision:
    """What the controller would decide if the tasks that have reported no end were all alive; Slurm is not asked.

    Its quarantine and its nodes to avoid are those of the next round, or of a later one.
    """
    state = run.read_state()
    evidence = []
    busy: set[str] = set()
    for submission in run.submissions():
        digest = submission.read_digest()
        if digest is not None:
            reports, silent, stopped = [end.progress for end in digest.ends], digest.silent, digest.stopped
        else:
            stopped = False
            plan, silent = submission.read_plan() if _may_live(submission.read_job()) else None, 0
            if plan is None:
                continue
            reports = list(submission.reports(range(len(plan.slots))).values())
            busy |= _busy(plan, reports)
        if submission.number > state.amnesty:
            tries = tuple(NodeTry(report.node, attempt) for report in reports for attempt in report.tries)
            wordless = digest.wordless if digest is not None else 0
            ended = digest is not None
            evidence.append(
                Evidence(submission.number, ended=ended, tries=tries, silent=silent, wordless=wordless, stopped=stopped)
            )
    facts = [
        TarFact(
            tar.name,
            done=tar.state == "committed" and not wants_retry(state, tar),
            taken=tar.name in busy,
            broken=data_verdict(tar),
            untrusted=tar.state == "invalid",
        )
        for tar in states
    ]
    return decide(facts, evidence)


def why_stopped(run: Run, decision: Decision) -> str:
    """Why the next round would submit nothing though something is left to do, by `judge_files`; empty if it would."""
    state = run.read_state()
    return CANCELLED if state.cancelled else decision.diagnosis or (refused_words(run, state) if decision.submit else "")


def _may_live(job: Job | None) -> bool:
    return job is not None and job.state != "refused"


def _busy(plan: Plan, reports: Sequence[Progress]) -> set[str]:
    """Tars of a submission that somebody works on or will."""
    tries = [attempt for report in reports for attempt in report.tries]
    planned = {task.name for slot in plan.slots for task in slot}
    return planned - {attempt.name for attempt in tries} | {each.name for each in tries if each.outcome in UNENDED}


def ask(run: Run, cluster: Cluster) -> tuple[Running, dict[str, Worker]]:
    """The run's tasks, with at most one question to the cluster; and tar -> who works on it, as far as claims tell."""
    open_jobs: dict[int, tuple[Submission, Job]] = {}
    ended: set[int] = set()
    for submission in run.submissions():
        job = submission.read_job()
        if submission.digest_file.exists():
            ended.add(submission.number)
        elif job is not None and _may_live(job):
            open_jobs[submission.number] = (submission, job)
    seen = cluster.look(open_jobs) if open_jobs else {}
    tasks = [task for job in seen.values() if job is not None for task in job.tasks.values()]
    unknown = len(open_jobs.keys() - seen.keys())
    submissions = {number: open_jobs[number][0] for number in seen}
    plans = {number: submission.read_plan() for number, submission in submissions.items()}
    running = Running(
        known=not open_jobs or unknown < len(open_jobs),
        running=dict(sorted(Counter(task.node for task in tasks if task.state != "PENDING").items())),
        pending=sum(task.state == "PENDING" for task in tasks),
        reasons=dict(Counter(task.reason for task in tasks if task.state == "PENDING" and task.reason)),
        unknown=unknown,
        device_seconds=sum(
            (_device_seconds(submission, plans[number], seen[number]) for number, submission in submissions.items()),
            DeviceSeconds(),
        ),
        stalls=read_stalls((submissions[number], _slots(plans[number], seen[number])) for number in submissions),
    )
    return running, _workers(run, _gone(plans, seen, ended))


def _device_seconds(submission: Submission, plan: Plan | None, job: JobSeen | None) -> DeviceSeconds:
    """Of a submission's tasks that run."""
    reports = submission.reports(_slots(plan, job))
    return sum((report.device_seconds for report in reports.values() if not report.finished), DeviceSeconds())


def _slots(plan: Plan | None, job: JobSeen | None) -> list[int]:
    """Those of a submission's tasks that run."""
    if plan is None or job is None:
        return []
    elements = [element for element, task in job.tasks.items() if task.state != "PENDING"]
    return [slot for element in elements for slot in plan.slots_of(element)]


def _gone(plans: Mapping[int, Plan | None], seen: Mapping[int, JobSeen | None], ended: set[int]) -> Callable[[str], bool]:
    """Whether a claim's task is known to have ended."""

    def gone(task: str) -> bool:
        named = TaskId.parse(task)
        if named is None:
            return False
        number = named.submission
        job, plan = seen.get(number), plans.get(number)
        return number in ended or (job is not None and plan is not None and named.slot // plan.processes not in job.tasks)

    return gone


def _workers(run: Run, gone: Callable[[str], bool]) -> dict[str, Worker]:
    mine = Claim.of_this_process("")
    return {
        name: Worker(claim.task, claim.host)
        for name, claim in read_claims(run.claims_folder).items()
        if held_by_other(claim, mine, gone=gone, silence=lambda: 0.0)  # to ask for its silence would take a file
    }
