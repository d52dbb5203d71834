"""What workers have tried, and where: what hpc/policy.py judges. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from jobs.reporting import Try

__all__ = ["Death", "Evidence", "NodeTry", "failed", "follows_a_line", "is_good", "without_repeats"]

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


def without_repeats(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The same, but a try that only made again what others had made of a long clip has not come further within it.

    Else a journal that nobody can go on with, for whatever reason, would have its tar tried for ever.
    """
    furthest: dict[Death, int] = {}
    return [
        msgspec.structs.replace(one, tries=tuple(_news(each, furthest) if each.attempt.kept else each for each in one.tries))
        for one in evidence
    ]


def _news(each: NodeTry, furthest: dict[Death, int]) -> NodeTry:
    attempt, kept = each.attempt, each.attempt.kept
    assert kept is not None, "asked of tries that have some"
    before = max(kept.before, furthest.get((attempt.name, kept.clip), 0))
    furthest[attempt.name, kept.clip] = max(before, kept.after)
    kept = msgspec.structs.replace(kept, before=min(before, kept.after))
    return msgspec.structs.replace(each, attempt=msgspec.structs.replace(attempt, kept=kept))


def is_good(attempt: Try) -> bool:
    """Whether a try shows that its node works: it made lines, and not only those that need no model, or parts of one."""
    if attempt.lengthened is not None:
        return True
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
