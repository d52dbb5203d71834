"""One round of the controller: look at files and jobs, decide, submit. It keeps no state that it could not lose."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.cluster import Cluster, JobSeen, SubmitRefusedError
from hpc.dispatch import InQueue, Submitted, Submitter
from hpc.evidence import View, ask_cluster, claims_that_stand, judge, refused_words, why_held
from hpc.launch import Launch
from hpc.lock import LockHeldError, locked
from hpc.patience import may_get_states
from hpc.policy import Decision
from hpc.progress import TarState
from hpc.remote_list import read_sizes
from hpc.run import ListedTar, Run, RunState, as_task
from hpc.slurm_words import all_ended
from hpc.stalls import Still, read_stalls
from hpc.submissions import Job, Submission
from hpc.training import describe_last_job, describe_training, status_of, survey
from jobs.claims import seconds_silent
from jobs.commands import writing_to
from jobs.fileops import FileOps, append_line
from jobs.plain_text import plain_json
from jobs.progress import Progress
from jobs.taste.status import Status

__all__ = ["Controller", "Round", "Tell"]

ROUND_LOCK_SECONDS = 600.0

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True)
class Round:
    """What one round saw and did."""

    decision: Decision
    states: list[TarState]
    running: dict[int, JobSeen]
    """Submission -> its tasks that have not ended."""
    unknown: tuple[int, ...]
    """Submissions whose tasks could not be looked up."""
    reports: dict[int, dict[int, Progress]]
    """Submission -> slot -> its worker's report, for submissions that may have tasks alive."""
    submitted: Submitted
    audio_seconds: float
    """Audio that the run's tasks have encoded, committed or not."""
    bytes_left: int
    """Size of the tars that are neither committed nor in quarantine."""
    stalls: tuple[Still, ...] = ()
    """Tasks without progress, longest stall first."""
    scan_seconds: float = 0.0
    """How long scanning the tars' files took."""
    training: str = ""
    """How far the training is, of a run that trains."""
    trained: Status | None = None
    """The same in figures, once there is a first step."""
    at_work: frozenset[tuple[int, int]] = frozenset()
    """(submission, slot) of the workers that run, by the cluster's answer; where it gave none, of all that may."""
    tar_bytes: Mapping[str, int] = field(default_factory=dict)
    """Name -> size, of the tars counted in `bytes_left`."""
    seconds: float = 0.0
    """Duration of the round."""


Tell = Callable[[Round, RunState, Sequence[View]], None]
"""Gets each round with the run's state and its submissions as the round saw them, while the lock is held."""


class Controller:
    """Brings a run to its end, round by round. Two controllers at once, or one killed anywhere, only cost time."""

    def __init__(
        self,
        run: Run,
        cluster: Cluster,
        launch: Launch,
        *,
        host: str,
        clock: Callable[[], float] = time.time,
        anew: bool = False,
        tell: Tell = lambda *_: None,
    ) -> None:
        """`anew`: a user has just started to watch, so what could not be written before is tried again at once."""
        self._run = run
        self._cluster = cluster
        self._host = host
        self._clock = clock
        self._relaunch(launch)
        self._ended: dict[int, View] = {}  # ended submissions never change
        self._noted: object = None
        self._avoided: set[str] = set()
        self._anew_at = clock() if anew else -math.inf
        self._tell = tell

    def _relaunch(self, launch: Launch) -> None:
        self._launch = launch
        self._submitter = Submitter(self._run, self._cluster, launch, host=self._host, clock=self._clock)

    def round(self) -> Round:
        """Look, decide, act. Raises LockHeldError if another controller is at work, UsageError if Slurm refuses the job."""
        with self._locked():
            return self._round()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._run.folder / "round.lock"
        with writing_to(self._run.output_dir), locked(lock, take_over_after=ROUND_LOCK_SECONDS, wait=False):
            yield

    def _round(self) -> Round:
        started = time.monotonic()
        state = self._run.read_state()
        if state.launch is not None and state.launch != self._launch and state.launch.cluster == self._launch.cluster:
            self._relaunch(state.launch)  # hpc.submit has been called meanwhile
        views = self.look()
        began = time.monotonic()
        listed, states = survey(self._run, state)
        scanned = time.monotonic()
        claimed = claims_that_stand(self._run, views, lambda name: seconds_silent(FileOps(), self._run.paths(name).claim))
        decision = judge(self._run, state, states, views, claimed, self._age_s)
        if words := why_held(self._run, state, decision):
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
        tar_bytes = {
            tar.name: as_task(ListedTar(tar.tar, tar.name), sizes).bytes
            for tar in states
            if tar.state != "committed" and tar.name not in decision.quarantine
        }
        seen = Round(
            decision=decision,
            states=states,
            running=_running(views),
            unknown=tuple(view.submission.number for view in views if not view.known),
            reports={view.submission.number: view.reports for view in views if view.alive()},
            submitted=submitted,
            audio_seconds=sum(view.audio_seconds() for view in views),
            bytes_left=sum(tar_bytes.values()),
            stalls=read_stalls((view.submission, view.alive()) for view in views if view.digest is None),
            scan_seconds=scanned - began,
            training=self._describe_training(state, decision),
            trained=status_of(self._run, state),
            at_work=frozenset(
                (view.submission.number, slot) for view in views for slot in (view.running() if view.known else view.alive())
            ),
            tar_bytes=tar_bytes,
            seconds=time.monotonic() - started,
        )
        self._tell(seen, state, views)
        return seen

    def tell_ends(self, seen: Round) -> None:
        """Make known how tasks have ended since the last round, if that can be done now."""
        with suppress(LockHeldError, InfrastructureError), self._locked():
            views = self.look()
            reports = {view.submission.number: view.reports for view in views if view.alive()}
            self._tell(replace(seen, running=_running(views), reports=reports), self._run.read_state(), views)

    def _describe_training(self, state: RunState, decision: Decision) -> str:
        """How far a training is, and what ended its last job, unless that is the diagnosis."""
        last = "" if decision.outcome == "stuck" else describe_last_job(self._run, state)
        return "; ".join(filter(None, [describe_training(self._run, state), last]))

    def _age_s(self, view: View) -> float:
        """Seconds since a submission was made; infinite where that no longer matters."""
        made_at = view.job.intended_at if view.job is not None else -math.inf
        return max(0.0, self._clock() - made_at) if made_at >= self._anew_at else math.inf

    def _dismiss(self, views: Sequence[View]) -> None:
        """Cancel tasks that have not begun and would find nothing to do. If that fails, they waste a few seconds."""
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
        """All submissions: which of their tasks may be alive, and what the others have reported."""
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
        """Ask once for all jobs that may be alive, and keep the ids that sbatch did not return."""
        before = [view.job for view in views]
        ask_cluster(views, self._cluster, self._clock(), refused=self._launch.cluster == "slurm")
        for view, job in zip(views, before, strict=True):
            if view.job is not None and view.job != job:
                view.submission.write_job(view.job)

    def _close(self, views: Sequence[View]) -> None:
        """Write the digests of submissions that have ended.

        One sacct, where there is accounting, says how all of them ended. It also knows jobs that ended before the queue
        showed them.
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
            if number in ends and view.submission.lacks_states(plan, states):
                if not view.job.gone_at:
                    view.job = msgspec.structs.replace(view.job, gone_at=self._clock())
                    view.submission.write_job(view.job)
                if may_get_states(view.job, self._clock()):
                    continue
            view.known = True
            view.digest = view.submission.close(plan, states)

    def _note(self, decision: Decision, submitted: Sequence[int]) -> None:
        """Append a line to the history if anything changed."""
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


def _running(views: Sequence[View]) -> dict[int, JobSeen]:
    """Submission -> its tasks that have not ended."""
    return {view.submission.number: view.seen for view in views if view.seen is not None and view.seen.tasks}


def _held(decision: Decision, views: Sequence[View], why: str) -> Decision:
    """The decision without its submissions, because of `why`."""
    if decision.outcome in ("finished", "quarantined"):
        return decision
    outcome = "running" if any(view.alive() for view in views) else "stuck"
    return msgspec.structs.replace(decision, outcome=outcome, submit=(), diagnosis=why, passes=False)
