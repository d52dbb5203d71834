"""One submission, as a round of the controller sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hpc.cluster import JobSeen
from hpc.submissions import Digest, Job, Submission
from hpc.tries import Evidence, NodeTry
from jobs.outputs import TarTask
from jobs.reporting import Ending, Progress, Try

__all__ = ["View", "evidence_of"]

GIVEN_UP: tuple[Ending, ...] = ("died", "failed", "damaged")
"""Ends of a try after which a task goes on with other tars."""


@dataclass
class View:
    """One submission, as a round sees it."""

    submission: Submission
    job: Job | None
    seen: JobSeen | None = None
    known: bool = True
    missing: bool = False
    """Not known, because the queue does not show it yet."""
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
            without = {attempt.name for attempt in given_up(self.reports.get(slot))}
            found |= {task.name for task in self.slots[slot]} - without
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

    def all_finished(self) -> bool:
        """Whether each of its workers has told that it came to its end."""
        return self.job is not None and all(
            slot in self.reports and self.reports[slot].finished
            for slot in range(min(self.job.elements * self.processes, len(self.slots)))
        )

    @property
    def never_submitted(self) -> bool:
        """Its job never came to be, as far as anyone knows."""
        return self.job is None or not self.job.job_id


def evidence_of(view: View, age_s: float = math.inf) -> Evidence | None:
    """What the tasks of a submission have tried and ended, or given up; None if it never had a job."""
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
    """What a task that may be alive has tried in vain, and goes on without.

    A tar in which its worker died with several clips in hand is not among them: its next worker searches it.
    """
    if report is None:
        return []
    last = {attempt.name: attempt for attempt in report.tries}
    return [one for one in report.tries if one.outcome in GIVEN_UP and not last[one.name].several]
