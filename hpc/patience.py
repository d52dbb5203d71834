"""Pure: how long a job may be missing before it is gone, and how often a refusal is heard before it counts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpc.slurm_words import is_submit_limit, no_answer
from hpc.submissions import Job

__all__ = ["GRACE_SECONDS", "REFUSALS", "may_be_told", "may_turn_up", "refused_again"]

GRACE_SECONDS = 60.0
"""How long a job may be on its way into the queue, or into what squeue shows: on some sites that is half a minute old."""

REFUSALS = 4
"""So many in a row are heard, even where no two are the same."""


def may_turn_up(job: Job, now: float) -> bool:
    """Whether a job that squeue does not show may be there all the same: sbatch answered, or was called, a moment ago. That
    it has been seen says nothing: login nodes may each have a snapshot of their own, of which the next one asked is older.
    """
    return now - max(job.intended_at, job.answered_at) <= GRACE_SECONDS


def may_be_told(job: Job, now: float) -> bool:
    """Whether the accounts may still say how the tasks of an ended job did: they are late by seconds."""
    return now - job.gone_at <= GRACE_SECONDS


def refused_again(jobs: Sequence[Job]) -> str:
    """What Slurm said last, if the last two were refusals in the same words, or answers that no job came of, or the last
    REFUSALS were, in whatever words; else nothing.
    """
    words = [_refusal(job) for job in jobs[-REFUSALS:]]
    if len(words) > 1 and _gist(words[-2]) == _gist(words[-1]) != "":
        return f"twice the same: {words[-1]}"
    return f"{REFUSALS} times in a row: {words[-1]}" if len(words) == REFUSALS and all(words) else ""


def _gist(words: str) -> str:
    """Without numbers, which are those of jobs and times, and without what is said beside the errors."""
    errors = [line for line in words.splitlines() if "error:" in line]
    return re.sub(r"\d+", "#", "\n".join(errors) or words)


def _refusal(job: Job) -> str:
    if job.state == "refused":
        return "" if job.full or is_submit_limit(job.words) else job.words
    return "" if job.job_id or no_answer(job.words) else job.words
