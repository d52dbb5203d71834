"""Pure: what workers have tried, and where. hpc/policy.py judges it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from jobs.progress import Try

__all__ = ["Death", "Evidence", "NodeTry", "failed", "follows_a_line", "is_good", "without_repeats"]

Death = tuple[str, int | None]
"""A tar, and the clip in hand or None."""


class NodeTry(msgspec.Struct, frozen=True):
    """A try and its node."""

    node: str
    attempt: Try


class Evidence(msgspec.Struct, frozen=True):
    """What the tasks of one submission have tried, except what living ones have in hand."""

    submission: int
    ended: bool
    """All of its tasks have ended."""
    tries: tuple[NodeTry, ...]
    silent: int = 0
    """Tasks that exited before starting work."""
    wordless: int = 0
    """Tasks that started and left nothing at all, not even a line in a log."""
    stopped: bool = False
    """Every task that had begun was cancelled or preempted."""
    round: int = 0
    """The first submission of the same round; 0 if it was the only one."""
    age_s: float = math.inf
    """Seconds since it was submitted; infinite where that no longer matters."""


def without_repeats(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The same evidence, in which a try that only repeated earlier work on a long clip counts as no progress.

    Otherwise a tar whose journal cannot be continued, for whatever reason, would be tried forever.
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
    """Whether a try shows that its node works: it made progress on a long clip, or lines that needed the model."""
    if attempt.lengthened is not None:
        return True
    if attempt.clip is None:
        return attempt.gained > len(attempt.crash_clips)
    gained = range(attempt.clip - attempt.gained, attempt.clip)
    return attempt.gained > sum(clip in gained for clip in attempt.crash_clips)


def failed(attempt: Try) -> bool:
    """Whether a try counts against its node: its worker died, or met machine trouble other than storage."""
    return attempt.outcome in ("machine", "died") and not attempt.storage


def follows_a_line(attempt: Try) -> bool:
    """Whether the line before the clip in hand is a real one, not that of a clip that was skipped for crashing."""
    return attempt.clip is not None and attempt.clip > 0 and attempt.clip - 1 not in attempt.crash_clips
