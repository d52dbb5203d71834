"""Pure: which events a round adds. Each is a fact of the control plane with an id of its own.

The ids that the file has already are all that is known of earlier rounds, so a controller that is killed and started again
neither loses an event nor says one twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypedDict

from hpc.events import (
    Event,
    NodeExcluded,
    RoundDone,
    RunContinued,
    RunFinished,
    RunStarted,
    RunStuck,
    Said,
    SubmissionEnded,
    SubmissionRefused,
    SubmissionSent,
    TarCommitted,
    TarDamaged,
    TarQuarantined,
    TaskEnded,
    TaskStarted,
    TrainingCounts,
    seconds_of,
)
from hpc.evidence import View
from hpc.monitor import Snapshot
from hpc.policy import Decision
from hpc.progress import TarState
from hpc.submissions import Job
from hpc.task_id import TaskId
from jobs.progress import Progress

__all__ = ["Facts", "new_events"]

ROUND_SECONDS = 60.0
"""Between two events `round` that bring only counts."""


@dataclass(frozen=True)
class Facts:
    """What a round knows when it has done its work."""

    run: str
    """The run's random id."""
    output_dir: str
    host: str
    now: float
    """Seconds since the epoch."""
    amnesty: int
    decision: Decision
    states: Sequence[TarState]
    views: Sequence[View]
    sent: Mapping[int, Job]
    """The jobs that this round submitted."""
    figures: Snapshot
    seconds: float
    scan_seconds: float
    training: TrainingCounts | None = None


class Head(TypedDict):
    """The fields that all events of a round have, but for the id."""

    run: str
    time: str


def new_events(facts: Facts, said: Said) -> list[Event]:
    """The events that the file lacks, in the order in which they belong there."""
    moment = datetime.fromtimestamp(facts.now, tz=timezone.utc)
    head = Head(run=facts.run, time=moment.isoformat(timespec="milliseconds"))
    news = [
        *_submissions(facts, said, head),
        *_tars(facts, said, head),
        *_quarantine(facts, said, head),
    ]
    begin, end = _of_run(facts, said, head)
    due = _round(facts, said, head, bool(news or begin or end))
    return [*begin, *news, *due, *end]


def _of_run(facts: Facts, said: Said, head: Head) -> tuple[list[Event], list[Event]]:
    """What is to be said first, and last."""
    outcome, figures, training = facts.decision.outcome, facts.figures, facts.training
    begin: list[Event] = []
    end: list[Event] = []
    ended = said.last_run in ("run_finished", "run_stuck")
    number = said.runs + 1
    if not said.last_run:
        begin.append(
            RunStarted(
                id=f"run_started/{number}",
                **head,
                output_dir=facts.output_dir,
                host=facts.host,
                tars=figures.tars,
                training=training,
            )
        )
    elif ended and outcome == "running":
        begin.append(
            RunContinued(
                id=f"run_continued/{number}",
                **head,
                host=facts.host,
                tars=figures.tars,
                training=training,
            )
        )
    counts = {"tars": figures.tars, "committed": _committed(facts), "quarantined": figures.quarantined}
    number += len(begin)
    if outcome in ("finished", "quarantined") and said.last_run != "run_finished":
        end.append(RunFinished(id=f"run_finished/{number}", **head, training=training, **counts))
    elif outcome == "stuck" and said.last_run != "run_stuck":
        end.append(
            RunStuck(
                id=f"run_stuck/{number}",
                **head,
                diagnosis=facts.decision.diagnosis,
                training=training,
                **counts,
            )
        )
    return begin, end


def _committed(facts: Facts) -> int:
    """Tars that are complete; 1 for a training that has come to its end."""
    return sum(tar.state == "committed" for tar in facts.states)


def _round(facts: Facts, said: Said, head: Head, news: bool) -> Iterator[RoundDone]:
    """The round, if it submitted, changed the outcome, or brought anything a minute after the last one."""
    figures, last = facts.figures, said.last_round
    done = RoundDone(
        id=f"round/{said.rounds + 1}",
        **head,
        outcome=facts.decision.outcome,
        tars=figures.tars,
        committed=_committed(facts),
        quarantined=figures.quarantined,
        clips=figures.clips,
        errors=figures.errors,
        damaged_clips=figures.damaged,
        audio_seconds=round(figures.audio_seconds, 3),
        encoded_seconds=round(figures.encoded_seconds, 3),
        bytes_done=figures.bytes_done,
        bytes_total=figures.bytes_total,
        tasks_running=sum(figures.running.values()),
        tasks_pending=figures.pending,
        submitted=tuple(facts.sent),
        tars_waiting=figures.waiting,
        device_seconds=figures.device_seconds.rounded(),
        seconds=round(facts.seconds, 3),
        scan_seconds=round(facts.scan_seconds, 3),
        training=facts.training,
    )
    if last is not None and not facts.sent and last.outcome == done.outcome:
        news = news or _progress(last) != _progress(done)
        if not news or 0 <= facts.now - seconds_of(last) < ROUND_SECONDS:
            return
    yield done


def _progress(done: RoundDone) -> tuple[object, ...]:
    """The figures whose change is news."""
    return done.committed, done.quarantined, done.clips, done.encoded_seconds, done.training


def _submissions(facts: Facts, said: Said, head: Head) -> Iterator[Event]:
    """What is new of submissions and their tasks. One whose end has been said is not looked at again."""
    jobs = [(view.submission.number, view.job) for view in facts.views]
    for number, job in [*jobs, *facts.sent.items()]:
        if job is not None:
            yield from _job(number, job, said, head)
    for view in facts.views:
        if f"submission_ended/{view.submission.number}" not in said.ids:
            yield from _tasks(view, said, head)


def _job(number: int, job: Job, said: Said, head: Head) -> Iterator[Event]:
    if job.job_id and (name := f"submission_sent/{number}") not in said.ids:
        yield SubmissionSent(id=name, **head, submission=number, job_id=job.job_id, elements=job.elements)
    elif job.state == "refused" and not job.full and (name := f"submission_refused/{number}") not in said.ids:
        yield SubmissionRefused(id=name, **head, submission=number, reason=job.words)


def _tasks(view: View, said: Said, head: Head) -> Iterator[Event]:
    number, digest = view.submission.number, view.digest
    if digest is None:
        alive = set(view.alive())
        for slot, report in view.reports.items():
            yield from _task(TaskId(number, slot), report, report.finished or slot not in alive, said, head)
        return
    for end in digest.ends:
        yield from _task(TaskId(number, end.slot), end.progress, True, said, head)
    if not view.never_submitted:
        yield SubmissionEnded(
            id=f"submission_ended/{number}",
            **head,
            submission=number,
            reported=len(digest.ends),
            silent=digest.silent + digest.wordless,
            states=digest.states,
        )


def _task(task: TaskId, report: Progress, ended: bool, said: Said, head: Head) -> Iterator[Event]:
    if (name := f"task_started/{task}") not in said.ids:
        yield TaskStarted(id=name, **head, task=str(task), node=report.node, gpu=report.gpu)
    if ended and (name := f"task_ended/{task}") not in said.ids:
        yield TaskEnded(
            id=name,
            **head,
            task=str(task),
            node=report.node,
            gpu=report.gpu,
            finished=report.finished,
            outcomes=dict(Counter(attempt.outcome for attempt in report.tries)),
            gained=sum(attempt.gained for attempt in report.tries),
            clips=report.clips,
            errors=report.errors,
            audio_seconds=round(report.audio_seconds, 3),
            device_seconds=report.device_seconds.rounded(),
            problem=report.tries[-1].problem if report.tries else "",
        )


def _tars(facts: Facts, said: Said, head: Head) -> Iterator[Event]:
    for tar in facts.states:
        manifest = tar.manifest
        if manifest is None:
            continue
        if tar.state == "committed":
            name = f"tar_committed/{tar.name}/{manifest.attempt}"
            if name not in said.ids:
                yield TarCommitted(
                    id=name,
                    **head,
                    tar=tar.name,
                    attempt=manifest.attempt,
                    clips=manifest.clips,
                    errors=manifest.errors,
                    damaged_clips=manifest.damaged_clips,
                    audio_seconds=manifest.audio_seconds,
                    input_bytes=manifest.input_bytes,
                    wall_seconds=manifest.wall_seconds,
                )
        elif manifest.is_damage and (name := f"tar_damaged/{tar.name}/{manifest.attempt}") not in said.ids:
            yield TarDamaged(
                id=name,
                **head,
                tar=tar.name,
                attempt=manifest.attempt,
                verdict=manifest.verdict,
                reason=manifest.verdict_detail,
            )


def _quarantine(facts: Facts, said: Said, head: Head) -> Iterator[Event]:
    """Tars given up and nodes avoided, once per amnesty; a tar whose file was replaced and broke again, once more."""
    attempts = {}
    if facts.decision.quarantine:
        attempts = {tar.name: tar.manifest.attempt for tar in facts.states if tar.manifest is not None}
    for tar, reason in facts.decision.quarantine.items():
        name = f"tar_quarantined/{tar}/{facts.amnesty}/{attempts.get(tar, '')}"
        if name not in said.ids:
            yield TarQuarantined(id=name, **head, tar=tar, reason=reason)
    for node, reason in facts.decision.exclude.items():
        if (name := f"node_excluded/{node}/{facts.amnesty}") not in said.ids:
            yield NodeExcluded(id=name, **head, node=node, reason=reason)
