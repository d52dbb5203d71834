"""What workers have tried, and where: what hpc/policy.py judges. Pure."""

from __future__ import annotations

import math

import msgspec

from jobs.reporting import Try

__all__ = ["Death", "Evidence", "NodeTry", "failed", "follows_a_line", "is_good"]

Death = tuple[str, int | None]
"""A tar, and the clip in hand if there was one."""


class NodeTry(msgspec.Struct, frozen=True):
    """A try, and where it was."""

    node: str
    attempt: Try


class Evidence(msgspec.Struct, frozen=True):
    """What the tasks of one submission have tried, but for what living ones have in hand."""

    submission: int
    ended: bool
    """All of its tasks have."""
    tries: tuple[NodeTry, ...]
    silent: int = 0
    """Tasks that started and never came to their work."""
    wordless: int = 0
    """Tasks that started and left nothing, no word in a log either."""
    stopped: bool = False
    """Each task that had begun was cancelled or preempted."""
    round: int = 0
    """The first submission of the same round; 0 if it was the only one."""
    age_s: float = math.inf
    """Since it was submitted; infinite where that does not matter any more."""


def is_good(attempt: Try) -> bool:
    """Whether a try shows that its node works: it made lines, and not only those that need no model."""
    if attempt.clip is None:
        return attempt.gained > len(attempt.crash_clips)
    gained = range(attempt.clip - attempt.gained, attempt.clip)
    return attempt.gained > sum(clip in gained for clip in attempt.crash_clips)


def failed(attempt: Try) -> bool:
    """Whether a try speaks against its node: its worker died, or met trouble with the machine that is not its storage's."""
    return attempt.outcome in ("machine", "died") and not attempt.storage


def follows_a_line(attempt: Try) -> bool:
    """Whether the line before the clip in hand was made in earnest, whenever that was."""
    return attempt.clip is not None and attempt.clip > 0 and attempt.clip - 1 not in attempt.crash_clips
