"""One round of the controller: look at files and jobs, decide, submit. It remembers nothing that it could not lose."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.cluster import Cluster, JobSeen, SubmitRefusedError
from hpc.dispatch import InQueue, Submitted, Submitter
from hpc.launch import Launch
from hpc.lock import locked
from hpc.patience import REFUSALS, may_be_told, may_turn_up, refused_again
from hpc.policy import Decision, TarFact, decide
from hpc.progress import TarState, scan
from hpc.remote_list import read_sizes
from hpc.run import ListedTar, Run, RunState, as_task
from hpc.slurm_words import all_ended
from hpc.stalls import Still, read_stalls
from hpc.submissions import Job, Submission
from hpc.task_id import TaskId
from hpc.view import View, evidence_of
from jobs.addresses import is_address
from jobs.claims import Claim, held_by_other, read_claims, seconds_silent
from jobs.commands import writing_to
from jobs.fileops import FileOps, append_line
from jobs.outputs import InputIdentity
from jobs.plain_text import plain_json
from jobs.reporting import Progress

__all__ = ["CANCELLED", "Controller", "Round", "data_verdict", "refused_words", "wants_retry"]

ROUND_LOCK_SECONDS = 600.0
CANCELLED = "it was cancelled; hpc.submit lets it go on"

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


class Controller:
    """Brings a run to its end, round by round. Two at once, or one killed anywhere, cost time and nothing else."""

    def __init__(
        self,
        run: Run,
        cluster: Cluster,
        launch: Launch,
        *,
        host: str,
        clock: Callable[[], float] = time.time,
        anew: bool = False,
    ) -> None:
        """`anew`: a person has just begun to watch: what could not be written before is tried again at once."""
        self._run = run
        self._cluster = cluster
        self._host = host
        self._clock = clock
        self._relaunch(launch)
        self._ended: dict[int, View] = {}  # which never change
        self._noted: object = None
        self._avoided: set[str] = set()
        self._anew_at = clock() if anew else -math.inf

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
        found = (evidence_of(view, self._age_s(view)) for view in views if view.submission.number > state.amnesty)
        evidence = [each for each in found if each is not None]
        decision = decide(self._facts(state, states, views), evidence, place=str(self._run.output_dir))
        if state.cancelled:
            decision = _held(decision, views, CANCELLED)
        elif decision.submit and (words := refused_words(self._run, state)):
            decision = _held(decision, views, words)
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
        except SubmitRefusedError as error:
            words = refused_words(self._run, state)
            submitted = Submitted(waiting=len(decision.submit), why=str(error))
            decision = _held(decision, views, words or str(error))
            if not words:
                self._note(decision, ())
                raise
        except UsageError as error:
            self._note(msgspec.structs.replace(decision, outcome="stuck", diagnosis=str(error)), ())
            raise
        self._note(decision, submitted.submissions)
        if decision.outcome in ("finished", "quarantined"):
            self._dismiss(views)
        sizes = read_sizes(self._run.sizes_file)
        return Round(
            decision=decision,
            states=states,
            running={view.submission.number: view.seen for view in views if view.seen is not None and view.seen.tasks},
            unknown=tuple(view.submission.number for view in views if not view.known),
            reports={view.submission.number: view.reports for view in views if view.alive()},
            submitted=submitted,
            audio_seconds=sum(view.audio_seconds() for view in views),
            bytes_left=sum(
                as_task(ListedTar(tar.tar, tar.name), sizes).bytes
                for tar in states
                if tar.state != "committed" and tar.name not in decision.quarantine
            ),
            stalls=read_stalls((view.submission, view.alive()) for view in views if view.digest is None),
            scan_seconds=scanned - began,
        )

    def _age_s(self, view: View) -> float:
        """Since a submission was made, in seconds."""
        made_at = view.job.intended_at if view.job is not None else -math.inf
        return max(0.0, self._clock() - made_at) if made_at >= self._anew_at else math.inf

    def _dismiss(self, views: Sequence[View]) -> None:
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

    def look(self) -> list[View]:
        """All submissions: which of their tasks may be alive, and what those have reported that are not."""
        views = [self._view(submission) for submission in self._run.submissions()]
        self._ask(views)
        self._close(views)
        return views

    def _view(self, submission: Submission) -> View:
        number = submission.number
        if number not in self._ended:
            view = View(submission, submission.read_job(), digest=submission.read_digest())
            if view.digest is None:
                return view
            self._ended[number] = view
        return self._ended[number]

    def _ask(self, views: Sequence[View]) -> None:
        """Ask once for all that may be alive, and learn the ids of jobs whose sbatch never told.

        Also for those that were refused since the last look: a site's own sbatch may fail after Slurm's has not.
        """
        asked = ("intended", "submitted", *(["refused"] if self._launch.cluster == "slurm" else []))
        open_views = {
            view.submission.number: view
            for view in views
            if view.digest is None and view.job is not None and view.job.state in asked
        }
        for view in open_views.values():
            plan = view.submission.read_plan()
            if plan is not None:
                view.slots, view.processes = plan.slots, plan.processes
        seen = self._cluster.look({number: (view.submission, view.job) for number, view in open_views.items() if view.job})
        for number, view in open_views.items():
            view.known = number in seen
            view.seen = seen.get(number)
            if view.job is None or (view.job.state == "refused" and view.seen is None):
                continue
            if view.seen is not None:
                view.job = self._learn(view.submission, view.job, view.seen)
            view.reports = view.submission.reports(range(len(view.slots)))
            if view.known and view.seen is None and not view.all_finished():
                view.missing = may_turn_up(view.job, self._clock())
                view.known = not view.missing

    @staticmethod
    def _learn(submission: Submission, job: Job, seen: JobSeen) -> Job:
        """Keep what the queue tells of a job."""
        found = msgspec.structs.replace(
            job,
            state="submitted",
            job_id=job.job_id or seen.job_id,
            cluster=job.cluster if job.job_id else seen.cluster,
        )
        if found != job:
            submission.write_job(found)
        return found

    def _close(self, views: Sequence[View]) -> None:
        """Keep the digests of submissions that have ended. One sacct says of all how, where there is accounting; it also
        knows of jobs that had ended before the queue could show them.
        """
        ended = [v for v in views if v.digest is None and v.job is not None and v.known and not v.alive()]
        asked = [*ended, *(v for v in views if v.missing)]
        ends = self._cluster.explain({v.submission.number: v.job for v in asked if v.job is not None and v.job.job_id})
        for view in asked:
            number = view.submission.number
            states = ends.get(number, {})
            plan = view.submission.read_plan()
            if plan is None or view.job is None or (view.missing and not all_ended(states, view.job.elements)):
                continue
            if number in ends and view.submission.untold(plan, states):
                if not view.job.gone_at:
                    view.job = msgspec.structs.replace(view.job, gone_at=self._clock())
                    view.submission.write_job(view.job)
                if may_be_told(view.job, self._clock()):
                    continue
            view.known = True
            view.digest = view.submission.close(plan, states)

    def _facts(self, state: RunState, states: Sequence[TarState], views: Sequence[View]) -> list[TarFact]:
        taken = {name for view in views for name in view.to_come()} | self._claimed(views)
        return [
            TarFact(
                tar.name,
                done=tar.state == "committed" and not wants_retry(state, tar),
                taken=tar.name in taken,
                broken=data_verdict(tar),
                untrusted=tar.state == "invalid",
            )
            for tar in states
        ]

    def _claimed(self, views: Sequence[View]) -> set[str]:
        """Tars whose claim is held by a task that may be alive, or by a worker that somebody started by hand."""
        alive = {view.submission.number: view.alive() for view in views}
        mine = Claim.of_this_process("")

        def gone(task: str) -> bool:
            named = TaskId.parse(task)
            return named is not None and named.submission in alive and named.slot not in alive[named.submission]

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
        append_line(self._run.history_file, plain_json(msgspec.json.encode(entry).decode()).encode())
        self._noted = news


def _held(decision: Decision, views: Sequence[View], why: str) -> Decision:
    """What is left of a decision when nothing is to be submitted."""
    if decision.outcome in ("finished", "quarantined"):
        return decision
    outcome = "running" if any(view.alive() for view in views) else "stuck"
    return msgspec.structs.replace(decision, outcome=outcome, submit=(), diagnosis=why, passes=False)


def refused_words(run: Run, state: RunState) -> str:
    """What Slurm has said again and again since somebody last asked for it, if that is a refusal."""
    known = [each.read_job() for each in run.submissions()[-REFUSALS:] if each.number > state.amnesty]
    return refused_again([job for job in known if job is not None])


def wants_retry(state: RunState, tar: TarState) -> bool:
    """Whether its clips with errors are to be tried again: nobody has, since somebody asked for it."""
    return tar.manifest is not None and bool(tar.manifest.errors) and state.retry.get(tar.name) == tar.manifest.attempt


def data_verdict(tar: TarState) -> str | None:
    """The data verdict, unless somebody has put another file in the tar's place since. No server is asked for that."""
    manifest = tar.manifest
    if tar.state == "committed" or manifest is None or not manifest.is_damage:
        return None
    try:
        same = is_address(tar.tar) or InputIdentity.of(Path(tar.tar)).matches(manifest)
    except OSError:
        same = True
    return tar.problem if same else None
