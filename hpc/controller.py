"""One round of the controller: look at files and jobs, decide, submit. It remembers nothing that it could not lose."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.cluster import Cluster, JobSeen
from hpc.launch import Launch
from hpc.lock import locked
from hpc.policy import Decision, Evidence, NodeTry, TarFact, decide
from hpc.progress import TarState, scan
from hpc.run import ListedTar, Run, RunState, as_task
from hpc.stalls import Still, read_stalls
from hpc.submissions import Digest, Job, Submission
from hpc.submitter import InQueue, Submitted, Submitter
from jobs.claims import Claim, held_by_other, read_claims, seconds_silent
from jobs.commands import writing_to
from jobs.fileops import FileOps
from jobs.outputs import InputIdentity, TarTask
from jobs.records import VERDICT_COMPLETE, VERDICT_IN_PROGRESS
from jobs.reporting import Ending, Progress, Try

__all__ = ["Controller", "Round", "data_verdict", "wants_retry"]

GRACE_SECONDS = 60.0
"""How long a job whose sbatch gave no answer may still turn up in the queue."""
ROUND_LOCK_SECONDS = 600.0

GIVEN_UP: tuple[Ending, ...] = ("died", "failed", "damaged")
"""Ends of a try after which a task goes on with other tars."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True)
class Round:
    """What one round saw and did."""

    decision: Decision
    states: list[TarState]
    running: dict[int, JobSeen]
    """Submission -> its tasks that have not ended."""
    unknown: tuple[int, ...]
    """Submissions of which nobody could tell."""
    reports: dict[int, dict[int, Progress]]
    """Submission -> slot -> what its worker has reported, for those that may be alive."""
    submitted: Submitted
    audio_seconds: float
    """Audio that the run's tasks have turned into tokens, committed or not."""
    bytes_left: int
    """Size of the tars that are not done and not in quarantine."""
    stalls: tuple[Still, ...] = ()
    """Tasks that make no progress, those that have made none for the longest time first."""
    scan_seconds: float = 0.0
    """How long the look at the tars' files took."""


@dataclass
class _View:
    """One submission, as a round sees it."""

    submission: Submission
    job: Job | None
    seen: JobSeen | None = None
    known: bool = True
    digest: Digest | None = None
    reports: dict[int, Progress] = field(default_factory=dict)
    slots: tuple[tuple[TarTask, ...], ...] = ()
    processes: int = 1

    def alive(self) -> list[int]:
        """Slots of tasks that may be alive."""
        if self.digest is not None or self.job is None or self.job.state == "refused":
            return []
        slots = range(min(self.job.elements * self.processes, len(self.slots)))
        elements = self.seen.tasks if self.seen is not None else {}
        return [slot for slot in slots if not self.known or slot // self.processes in elements]

    def to_come(self) -> set[str]:
        """Tars in the plans of tasks that may be alive, without those that their task has given up: it tries none twice."""
        found = set()
        for slot in self.alive():
            given_up = {attempt.name for attempt in _given_up(self.reports.get(slot))}
            found |= {task.name for task in self.slots[slot]} - given_up
        return found

    def may_run(self) -> int:
        """How many of its array tasks may run at once."""
        if self.job is None or not self.alive():
            return 0
        return min(self.job.parallel, len(self.seen.tasks)) if self.known and self.seen is not None else self.job.parallel

    def audio_seconds(self) -> float:
        """Audio that its tasks have turned into tokens so far."""
        reports = [end.progress for end in self.digest.ends] if self.digest is not None else list(self.reports.values())
        return sum(report.audio_seconds for report in reports)

    @property
    def never_submitted(self) -> bool:
        """Its job never came to be, as far as anyone knows."""
        return self.job is None or not self.job.job_id


class Controller:
    """Brings a run to its end, round by round. Two at once, or one killed anywhere, cost time and nothing else."""

    def __init__(
        self, run: Run, cluster: Cluster, launch: Launch, *, host: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._run = run
        self._cluster = cluster
        self._host = host
        self._clock = clock
        self._relaunch(launch)
        self._ended: dict[int, _View] = {}  # which never change
        self._noted: object = None
        self._avoided: set[str] = set()

    def _relaunch(self, launch: Launch) -> None:
        self._launch = launch
        self._submitter = Submitter(self._run, self._cluster, launch, host=self._host, clock=self._clock)

    def round(self) -> Round:
        """Look, decide, act. Raises LockHeldError if another controller is at it, UsageError if Slurm refuses the job."""
        lock = self._run.folder / "round.lock"
        with writing_to(self._run.output_dir), locked(lock, take_over_after=ROUND_LOCK_SECONDS, wait=False):
            return self._round()

    def _round(self) -> Round:
        state = self._run.read_state()
        if state.launch is not None and state.launch != self._launch and state.launch.cluster == self._launch.cluster:
            self._relaunch(state.launch)  # somebody has called hpc.submit meanwhile
        views = self.look()
        listed = self._run.listed()
        began = time.monotonic()
        states = list(scan(self._run, listed))
        scanned = time.monotonic()
        found = (_evidence(view) for view in views if view.submission.number > state.amnesty)
        decision = decide(self._facts(state, states, views), [evidence for evidence in found if evidence is not None])
        if state.cancelled:
            decision = _cancelled(decision, views)
        open_jobs = [view.job for view in views if view.job is not None and view.alive()]
        if decision.exclude and set(decision.exclude) - self._avoided:
            self._cluster.avoid(open_jobs, list(decision.exclude))
            self._avoided |= set(decision.exclude)
        queue = InQueue(
            alive={view.submission.number: alive for view in views if (alive := view.alive())},
            elements=sum(len(view.seen.tasks) for view in views if view.seen is not None),
            may_run=sum(view.may_run() for view in views),
        )
        try:
            submitted = self._submitter.submit(state.run_id, decision, listed, states, queue)
        except UsageError as error:
            self._note(msgspec.structs.replace(decision, outcome="stuck", diagnosis=str(error)), ())
            raise
        self._note(decision, submitted.submissions)
        if decision.outcome in ("finished", "quarantined"):
            self._dismiss(views)
        return Round(
            decision=decision,
            states=states,
            running={view.submission.number: view.seen for view in views if view.seen is not None and view.seen.tasks},
            unknown=tuple(view.submission.number for view in views if not view.known),
            reports={view.submission.number: view.reports for view in views if view.alive()},
            submitted=submitted,
            audio_seconds=sum(view.audio_seconds() for view in views),
            bytes_left=sum(
                as_task(ListedTar(tar.tar, tar.name)).bytes
                for tar in states
                if tar.state != "committed" and tar.name not in decision.quarantine
            ),
            stalls=read_stalls((view.submission, view.alive()) for view in views if view.digest is None),
            scan_seconds=scanned - began,
        )

    def _dismiss(self, views: Sequence[_View]) -> None:
        """Tasks that have not begun would find nothing to do: others have helped. A refusal costs them a few seconds."""
        left = {
            view.submission.number: (view.submission, view.job) for view in views if view.job is not None and view.alive()
        }
        if left:
            try:
                self._cluster.cancel(left, pending_only=True)
            except InfrastructureError as error:
                log.info("%s", error)

    def open_jobs(self) -> dict[int, tuple[Submission, Job]]:
        """The jobs that may have tasks alive."""
        views = [view for view in self.look() if view.alive()]
        return {view.submission.number: (view.submission, view.job) for view in views if view.job is not None}

    def look(self) -> list[_View]:
        """All submissions: which of their tasks may be alive, and what those have reported that are not."""
        views = [self._view(submission) for submission in self._run.submissions()]
        self._ask(views)
        self._close(views)
        return views

    def _view(self, submission: Submission) -> _View:
        number = submission.number
        if number not in self._ended:
            view = _View(submission, submission.read_job(), digest=submission.read_digest())
            if view.digest is None:
                return view
            self._ended[number] = view
        return self._ended[number]

    def _ask(self, views: Sequence[_View]) -> None:
        """Ask once for all that may be alive, and learn the ids of jobs whose sbatch never told."""
        open_views = {view.submission.number: view for view in views if view.digest is None and _may_live(view.job)}
        for view in open_views.values():
            plan = view.submission.read_plan()
            if plan is not None:
                view.slots, view.processes = plan.slots, plan.processes
        seen = self._cluster.look({number: (view.submission, view.job) for number, view in open_views.items() if view.job})
        for number, view in open_views.items():
            view.known = number in seen
            view.seen = seen.get(number)
            if view.seen is not None and view.job is not None and not view.job.job_id:
                view.job = msgspec.structs.replace(view.job, state="submitted", job_id=view.seen.job_id)
                view.submission.write_job(view.job)
            if view.known and view.seen is None and view.job is not None and view.job.state == "intended":
                # sbatch gave no answer, and the job is not in the queue: it may have ended already, or be on its way
                view.known = self._clock() - view.job.intended_at > GRACE_SECONDS
            view.reports = view.submission.reports(range(len(view.slots)))

    def _close(self, views: Sequence[_View]) -> None:
        """Keep the digests of submissions that have ended. One sacct says of all how, where there is accounting."""
        ended = [v for v in views if v.digest is None and v.job is not None and v.known and not v.alive()]
        ends = self._cluster.explain({v.submission.number: v.job for v in ended if v.job is not None and v.job.job_id})
        for view in ended:
            plan = view.submission.read_plan()
            if plan is None:
                continue
            view.digest = view.submission.close(plan, ends.get(view.submission.number, {}))

    def _facts(self, state: RunState, states: Sequence[TarState], views: Sequence[_View]) -> list[TarFact]:
        taken = {name for view in views for name in view.to_come()} | self._claimed(views)
        return [
            TarFact(
                tar.name,
                done=tar.state == "committed" and not wants_retry(state, tar),
                taken=tar.name in taken,
                broken=data_verdict(tar),
            )
            for tar in states
        ]

    def _claimed(self, views: Sequence[_View]) -> set[str]:
        """Tars whose claim is held by a task that may be alive, or by a worker that somebody started by hand."""
        alive = {view.submission.number: view.alive() for view in views}
        mine = Claim.of_this_process("")

        def gone(task: str) -> bool:
            submission, _, slot = task.partition("/")
            return int(submission) in alive and int(slot) not in alive[int(submission)]

        def silence(name: str) -> float:
            return seconds_silent(FileOps(), self._run.paths(name).claim)

        return {
            name
            for name, claim in read_claims(self._run.claims_folder).items()
            if held_by_other(claim, mine, gone=gone, silence=partial(silence, name))
        }

    def _note(self, decision: Decision, submitted: Sequence[int]) -> None:
        """Add a line to the history, if there is news."""
        news = (decision.outcome, decision.quarantine, decision.exclude, decision.diagnosis)
        if not submitted and news == self._noted:
            return
        self._noted = news
        entry = {
            "at": datetime.fromtimestamp(self._clock(), tz=timezone.utc).isoformat(timespec="seconds"),
            "host": self._host,
            "outcome": decision.outcome,
            "submitted": list(submitted),
            "tars": len(decision.submit),
            "quarantine": decision.quarantine,
            "exclude": decision.exclude,
            "crash_clips": decision.crash_clips,
            "diagnosis": decision.diagnosis,
        }
        with self._run.history_file.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")


def _cancelled(decision: Decision, views: Sequence[_View]) -> Decision:
    """What is left of a decision when nothing is to be submitted."""
    if decision.outcome in ("finished", "quarantined"):
        return decision
    return msgspec.structs.replace(
        decision,
        outcome="running" if any(view.alive() for view in views) else "stuck",
        submit=(),
        diagnosis="it was cancelled; hpc.submit lets it go on",
    )


def _may_live(job: Job | None) -> bool:
    return job is not None and job.state != "refused"


def _evidence(view: _View) -> Evidence | None:
    """What the tasks of a submission have tried and ended, or given up; None if it never had a job."""
    if view.digest is not None:
        ends, silent = [(end.slot, end.progress) for end in view.digest.ends], view.digest.silent
        if view.never_submitted and not ends and not silent:
            return None
    else:
        ends, silent = list(view.reports.items()), 0
    alive = set(view.alive())
    tries = tuple(
        NodeTry(report.node, attempt)
        for slot, report in ends
        for attempt in (_given_up(report) if slot in alive else report.tries)
    )
    together = view.job.round if view.job is not None else 0
    return Evidence(view.submission.number, ended=view.digest is not None, tries=tries, silent=silent, round=together)


def _given_up(report: Progress | None) -> list[Try]:
    """What a task that may be alive has tried in vain, and goes on without.

    A tar in which its worker died with several clips in hand is not among them: its next worker searches it.
    """
    if report is None:
        return []
    last = {attempt.name: attempt for attempt in report.tries}
    return [one for one in report.tries if one.outcome in GIVEN_UP and not last[one.name].several]


def wants_retry(state: RunState, tar: TarState) -> bool:
    """Whether its clips with errors are to be tried again: nobody has, since somebody asked for it."""
    return tar.manifest is not None and bool(tar.manifest.errors) and state.retry.get(tar.name) == tar.manifest.attempt


def data_verdict(tar: TarState) -> str | None:
    """The data verdict, unless somebody has put another file in the tar's place since."""
    manifest = tar.manifest
    if tar.state == "committed" or manifest is None or manifest.verdict in (VERDICT_COMPLETE, VERDICT_IN_PROGRESS):
        return None
    try:
        same = InputIdentity.of(Path(tar.tar)).matches(manifest)
    except OSError:
        same = True
    return tar.problem if same else None
