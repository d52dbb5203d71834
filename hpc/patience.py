"""Pure: how long a job may be missing before it is gone, and how often a refusal is heard before it counts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpc.slurm_words import is_submit_limit, no_answer
from hpc.submissions import Job

__all__ = ["GRACE_SECONDS", "may_be_told", "may_turn_up", "refused_again"]

GRACE_SECONDS = 60.0
"""How long a job may be on its way into the queue, or into what squeue shows: on some sites that is half a minute old."""


def may_turn_up(job: Job, now: float) -> bool:
    """Whether a job that squeue does not show may be there all the same: sbatch answered, or was called, a moment ago, and
    nobody has seen it since. What squeue has once shown and does not show now has ended.
    """
    return not job.seen and now - max(job.intended_at, job.answered_at) <= GRACE_SECONDS


def may_be_told(job: Job, now: float) -> bool:
    """Whether the accounts may still say how the tasks of an ended job did: they are late by seconds."""
    return now - job.gone_at <= GRACE_SECONDS


def refused_again(jobs: Sequence[Job]) -> str:
    """What Slurm said the last two times, if both were refusals in the same words, or answers that no job came of; else
    nothing. Numbers in it may differ: those of jobs, times.
    """
    last = [re.sub(r"\d+", "#", _refusal(job)) for job in jobs[-2:]]
    return _refusal(jobs[-1]) if len(last) == 2 and last[0] and last[0] == last[1] else ""


def _refusal(job: Job) -> str:
    if job.state == "refused":
        return "" if job.full or is_submit_limit(job.words) else job.words
    return "" if job.job_id or no_answer(job.words) else job.words
