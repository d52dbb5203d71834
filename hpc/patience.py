"""Pure: how long a job may be missing before it counts as gone, and how many refusals count as final."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpc.slurm_words import is_submit_limit, no_answer
from hpc.submissions import Job

__all__ = ["GRACE_SECONDS", "REFUSALS", "may_get_states", "may_turn_up", "refused_again"]

GRACE_SECONDS = 60.0
"""How long a job may take to appear in squeue, whose answer is up to half a minute old on some sites."""

REFUSALS = 4
"""Refusals in a row that are final even if no two are alike."""


def may_turn_up(job: Job, now: float) -> bool:
    """Whether a job that squeue does not show may exist: sbatch answered, or was called, a moment ago.

    That it was seen before proves nothing: each login node may have its own snapshot, and the next one asked may be older.
    """
    return now - max(job.intended_at, job.answered_at) <= GRACE_SECONDS


def may_get_states(job: Job, now: float) -> bool:
    """Whether accounting, which lags by seconds, may still report how the tasks of an ended job ended."""
    return now - job.gone_at <= GRACE_SECONDS


def refused_again(jobs: Sequence[Job]) -> str:
    """Slurm's latest message, if the last two jobs were refused in the same words, or the last REFUSALS in any; else empty.

    An answer that produced no job counts as a refusal.
    """
    words = [_refusal(job) for job in jobs[-REFUSALS:]]
    if len(words) > 1 and _gist(words[-2]) == _gist(words[-1]) != "":
        return f"twice the same: {words[-1]}"
    return f"{REFUSALS} times in a row: {words[-1]}" if len(words) == REFUSALS and all(words) else ""


def _gist(words: str) -> str:
    """The error lines alone, without numbers: those are job ids and times."""
    errors = [line for line in words.splitlines() if "error:" in line]
    return re.sub(r"\d+", "#", "\n".join(errors) or words)


def _refusal(job: Job) -> str:
    if job.state == "refused":
        return "" if job.full or is_submit_limit(job.words) else job.words
    return "" if job.job_id or no_answer(job.words) else job.words
