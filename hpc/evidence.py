"""What is known of a run when a round begins: its submissions as files and Slurm show them, and what that says of each tar.

The controller acts on it, and `hpc/standing.py` shows it: both call `judge`, so neither can say what the other does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from hpc.cluster import Cluster, JobSeen, TaskSeen
from hpc.patience import REFUSALS, may_turn_up, refused_again
from hpc.policy import Decision, TarFact, decide
from hpc.progress import TarState
from hpc.run import Run, RunState
from hpc.submissions import Digest, Job, Submission
from hpc.task_id import TaskId
from hpc.training import final_words, of_training
from hpc.tries import Evidence, NodeTry
from jobs.addresses import is_address
from jobs.claims import Claim, held_by_other, read_claims
from jobs.progress import UNENDED, Ending, Progress, Try
from jobs.tar_task import InputIdentity, TarTask

__all__ = ["CANCELLED", "View", "ask_cluster", "ask_reports", "claims_that_stand", "judge", "why_held"]

CANCELLED = "it was cancelled; hpc.submit lets it go on"
GIVEN_UP: tuple[Ending, ...] = ("died", "failed", "damaged")
"""Ends of a try after which its task goes on with other tars."""


@dataclass
class View:
    """One submission as a round sees it."""

    submission: Submission
    job: Job | None
    seen: JobSeen | None = None
    known: bool = True
    missing: bool = False
    """Not known because the queue may not show it yet."""
    digest: Digest | None = None
    reports: dict[int, Progress] = field(default_factory=dict)
    slots: tuple[tuple[TarTask, ...], ...] = ()
    processes: int = 1

    def alive(self) -> list[int]:
        """Slots of tasks that may be alive; all of them if the cluster did not answer."""
        if self.digest is not None or self.job is None or self.job.state == "refused":
            return []
        slots = range(min(self.job.elements * self.processes, len(self.slots)))
        elements = self.seen.tasks if self.seen is not None else {}
        return [slot for slot in slots if not self.known or slot // self.processes in elements]

    def running(self) -> list[int]:
        """Slots of tasks that run, by the cluster's answer."""
        elements = self.seen.tasks if self.seen is not None else {}
        return [slot for slot in self.alive() if (task := elements.get(slot // self.processes)) and task.state != "PENDING"]

    def to_come(self) -> set[str]:
        """Tars in the plans of tasks that may be alive, without those that a task has given up and will not try again."""
        found = set()
        for slot in self.alive():
            without = {attempt.name for attempt in given_up(self.reports.get(slot))}
            found |= {task.name for task in self.slots[slot]} - without
        return found

    def may_run(self) -> int:
        """How many of its array tasks may run at once."""
        if self.job is None or not self.alive():
            return 0
        return min(self.job.parallel, len(self.seen.tasks)) if self.known and self.seen is not None else self.job.parallel

    def audio_seconds(self) -> float:
        """Audio that its tasks have encoded so far."""
        reports = [end.progress for end in self.digest.ends] if self.digest is not None else list(self.reports.values())
        return sum(report.audio_seconds for report in reports)

    def all_finished(self) -> bool:
        """Whether each of its workers has reported that it ended by itself."""
        return self.job is not None and all(
            slot in self.reports and self.reports[slot].finished
            for slot in range(min(self.job.elements * self.processes, len(self.slots)))
        )

    @property
    def never_submitted(self) -> bool:
        """As far as is known, it never had a job."""
        return self.job is None or not self.job.job_id


def evidence_of(view: View, age_s: float = math.inf) -> Evidence | None:
    """What the tasks of a submission have tried, and living ones have given up; None if it never had a job."""
    wordless = view.digest.wordless if view.digest is not None else 0
    if view.digest is not None:
        ends, silent = [(end.slot, end.progress) for end in view.digest.ends], view.digest.silent
        stopped = view.digest.stopped
        if view.never_submitted and not ends and not silent and not wordless:
            return None
    else:
        ends, silent, stopped = list(view.reports.items()), 0, False
    alive = set(view.alive())
    tries = tuple(
        NodeTry(report.node, attempt)
        for slot, report in ends
        for attempt in (given_up(report) if slot in alive else report.tries)
    )
    together = view.job.round if view.job is not None else 0
    return Evidence(
        view.submission.number,
        ended=view.digest is not None,
        tries=tries,
        silent=silent,
        wordless=wordless,
        stopped=stopped,
        round=together,
        age_s=age_s,
    )


def given_up(report: Progress | None) -> list[Try]:
    """The failed tries after which a task that may be alive goes on with other tars.

    A tar in which its worker died with several clips in hand is not among them: its next worker takes it clip by clip.
    """
    if report is None:
        return []
    last = {attempt.name: attempt for attempt in report.tries}
    return [one for one in report.tries if one.outcome in GIVEN_UP and not last[one.name].several]


def ask_cluster(views: Sequence[View], cluster: Cluster, now: float, *, refused: bool) -> list[View]:
    """Ask once for all submissions that may be alive, and return those asked for. Writes nothing.

    Job ids in the answer go into the views. `refused`: also ask for jobs that were refused since the last look, since a
    site's own sbatch may fail after Slurm's has succeeded.
    """
    asked = ("intended", "submitted", *(["refused"] if refused else []))
    open_views = [view for view in views if view.digest is None and view.job is not None and view.job.state in asked]
    seen = cluster.look({view.submission.number: (view.submission, view.job) for view in open_views if view.job is not None})
    for view in open_views:
        view.known = view.submission.number in seen
        view.seen = seen.get(view.submission.number)
        _read_plan(view)
        if view.job is None or (view.job.state == "refused" and view.seen is None):
            continue
        if view.seen is not None:
            view.job = _learned(view.job, view.seen)
        view.reports = view.submission.reports(range(len(view.slots)))
        if view.known and view.seen is None and not view.all_finished():
            view.missing = may_turn_up(view.job, now)
            view.known = not view.missing
    return open_views


def ask_reports(views: Sequence[View]) -> None:
    """The same where no cluster is asked: a task counts as running until its report says that it has ended."""
    for view in views:
        if view.digest is not None or view.job is None or view.job.state == "refused":
            continue
        _read_plan(view)
        view.reports = view.submission.reports(range(len(view.slots)))
        ended = {slot for slot, report in view.reports.items() if _has_ended(report)}
        slots = range(min(view.job.elements * view.processes, len(view.slots)))
        elements = {slot // view.processes for slot in slots if slot not in ended}
        view.seen = JobSeen(view.job.job_id, dict.fromkeys(elements, TaskSeen("RUNNING", "")))


def _read_plan(view: View) -> None:
    plan = view.submission.read_plan()
    if plan is not None:
        view.slots, view.processes = plan.slots, plan.processes


def _learned(job: Job, seen: JobSeen) -> Job:
    return msgspec.structs.replace(
        job,
        state="submitted",
        job_id=job.job_id or seen.job_id,
        cluster=job.cluster if job.job_id else seen.cluster,
    )


def _has_ended(report: Progress) -> bool:
    """Whether a worker ended by itself, or met machine trouble, after which it takes no other tar."""
    outcomes = {attempt.outcome for attempt in report.tries}
    return report.finished or ("machine" in outcomes and not outcomes & set(UNENDED))


def claims_that_stand(run: Run, views: Sequence[View], silence: Callable[[str], float]) -> dict[str, Claim]:
    """Tar -> its claim, where a task that may be alive holds it, or a worker that was started by hand.

    `silence` gives the seconds since the last sign of life for a tar's claim; it is called where nothing better is known.
    """
    alive = {view.submission.number: view.alive() for view in views}
    mine = Claim.of_this_process("")

    def gone(task: str) -> bool:
        named = TaskId.parse(task)
        return named is not None and named.submission in alive and named.slot not in alive[named.submission]

    return {
        name: claim
        for name, claim in read_claims(run.claims_folder).items()
        if held_by_other(claim, mine, gone=gone, silence=partial(silence, name))
    }


def judge(
    run: Run,
    state: RunState,
    states: Sequence[TarState],
    views: Sequence[View],
    claimed: Collection[str],
    age_s: Callable[[View], float],
) -> Decision:
    """What a round that sees this decides, apart from what keeps it from submitting (`why_held`).

    `claimed` are the tars whose claims stand, and `age_s` gives the seconds since a submission was made.
    """
    found = (evidence_of(view, age_s(view)) for view in views if view.submission.number > state.amnesty)
    evidence = [each for each in found if each is not None]
    taken = {name for view in views for name in view.to_come()} | set(claimed)
    facts = [
        TarFact(
            tar.name,
            done=tar.state == "committed" and not _wants_retry(state, tar),
            taken=tar.name in taken,
            broken=_data_verdict(tar) if state.training is None else final_words(evidence),
            untrusted=tar.state == "invalid",
        )
        for tar in states
    ]
    decision = decide(facts, evidence, place=str(run.output_dir))
    return decision if state.training is None else of_training(decision)


def why_held(run: Run, state: RunState, decision: Decision) -> str:
    """What keeps a round from submitting what it has decided on; empty if nothing does."""
    if state.cancelled:
        return CANCELLED
    return refused_words(run, state) if decision.submit else ""


def refused_words(run: Run, state: RunState) -> str:
    """Slurm's message, if it has refused repeatedly since the last hpc.submit or --retry-quarantined; else empty."""
    known = [each.read_job() for each in run.submissions()[-REFUSALS:] if each.number > state.amnesty]
    return refused_again([job for job in known if job is not None])


def _wants_retry(state: RunState, tar: TarState) -> bool:
    """Whether its error clips are to be tried again: that was requested, and has not been done since."""
    return tar.manifest is not None and bool(tar.manifest.errors) and state.retry.get(tar.name) == tar.manifest.attempt


def _data_verdict(tar: TarState) -> str | None:
    """The data verdict, unless the tar has been replaced by another file since. Servers are not asked."""
    manifest = tar.manifest
    if tar.state == "committed" or manifest is None or not manifest.is_damage:
        return None
    try:
        same = is_address(tar.tar) or InputIdentity.of(Path(tar.tar)).matches(manifest)
    except OSError:
        same = True
    return tar.problem if same else None
