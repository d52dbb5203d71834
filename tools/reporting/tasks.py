"""Reads what a run's submissions and their tasks have reported."""

from __future__ import annotations

import os
from collections.abc import Iterable

from audio_tokenizers.errors import UsageError
from hpc.run import Run
from hpc.submissions import Digest, Submission
from jobs.plain_text import plain, plain_lines
from jobs.progress import UNENDED, Progress
from tools.reporting.facts import End, SubmissionFacts, Task

__all__ = ["end_of", "read_tasks"]

SILENT_SECONDS = 300.0
"""A task that is not known to have ended is taken to run while its report is not older. Workers report twice a second;
clocks of nodes and file servers differ by much less.
"""
DEATHS = ("died", "machine", "killed")


def read_tasks(run: Run, now: float, problems: list[str]) -> tuple[list[SubmissionFacts], list[Task]]:
    """All submissions, oldest first, and their tasks. What cannot be read is left out, and named in `problems`."""
    submissions: list[SubmissionFacts] = []
    tasks: list[Task] = []
    for submission in run.submissions():
        try:
            facts, found = _read(submission, now)
        except (UsageError, OSError) as error:
            problems.append(plain_lines(str(error)))
            continue
        submissions.append(facts)
        tasks += found
    return submissions, tasks


def _read(submission: Submission, now: float) -> tuple[SubmissionFacts, list[Task]]:
    plan, job, digest = submission.read_plan(), submission.read_job(), submission.read_digest()
    processes = plan.processes if plan is not None else 1
    slots = len(plan.slots) if plan is not None else 0
    facts = SubmissionFacts(
        number=submission.number,
        job_id=plain(job.job_id) if job is not None else "",
        state="ended" if digest is not None else job.state if job is not None else "intended",
        words=plain_lines(job.words) if job is not None and job.state == "refused" else "",
        elements=job.elements if job is not None else -(-slots // processes),
        processes=processes,
        tars=sum(len(slot) for slot in plan.slots) if plan is not None else 0,
        intended_at=job.intended_at if job is not None else 0.0,
        states=digest.states if digest is not None else {},
        silent=digest.silent + digest.wordless if digest is not None else 0,
    )
    times = {slot: min(at, now) for slot, at in _report_times(submission).items()}
    return facts, [
        _task(facts, slot, report, times.get(slot, report.started), digest, now)
        for slot, report in _reports(submission, digest, times)
    ]


def _reports(submission: Submission, digest: Digest | None, slots: Iterable[int]) -> Iterable[tuple[int, Progress]]:
    if digest is not None:
        return [(end.slot, end.progress) for end in digest.ends]
    return sorted(submission.reports(slots).items())


def _report_times(submission: Submission) -> dict[int, float]:
    """Slot -> when its report was last written."""
    found = {}
    try:
        with os.scandir(submission.report_file(0).parent) as entries:
            for entry in entries:
                number, _, suffix = entry.name.partition(".")
                if suffix == "json" and number.isdecimal():
                    found[int(number)] = entry.stat().st_mtime
    except FileNotFoundError:
        pass
    return found


def _task(of: SubmissionFacts, slot: int, report: Progress, ended: float, digest: Digest | None, now: float) -> Task:
    tries = report.tries
    # A node whose clock is off by years would otherwise have cost years.
    started = min(max(report.started or ended, of.intended_at), max(ended, now))
    deaths = tuple(
        (place + 1) / len(tries) for place, attempt in enumerate(tries) if attempt.outcome in DEATHS and not attempt.storage
    )
    return Task(
        submission=of.number,
        element=slot // of.processes,
        slot=slot,
        node=plain(report.node) or "unknown",
        gpu=plain(report.gpu) if report.gpu is not None else "",
        started=started,
        ended=max(ended, started),  # two clocks
        end=end_of(report, has_ended=digest is not None, silence=now - ended),
        audio_seconds=report.audio_seconds,
        device=report.device_seconds,
        tries=len(tries),
        deaths=deaths,
    )


def end_of(report: Progress, *, has_ended: bool, silence: float) -> End:
    """Pure: how a task ended. `has_ended`: its submission is known to have; `silence`: seconds since its last report."""
    last = report.tries[-1].outcome if report.tries else "loading"
    if last in DEATHS and (has_ended or report.finished or silence > SILENT_SECONDS):
        return "died"
    if last == "yielded" and (has_ended or report.finished):
        return "stopped"
    if report.finished:
        return "finished"
    if has_ended:
        return "stopped" if last in UNENDED else "finished"
    return "running" if silence <= SILENT_SECONDS else "silent"
