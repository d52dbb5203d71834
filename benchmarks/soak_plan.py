"""Pure: which faults a soak tries, when, and for how long; the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DISK_FULL", "KINDS", "TIME_LIMIT", "Kind", "Planned", "plan_faults"]


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    weight: float
    """How often it comes, relative to the others."""
    shortest_s: float = 0.0
    longest_s: float = 0.0
    """How long until it is undone; 0 where there is nothing to undo."""
    says: str = ""
    """Words by which the trouble that it makes is known, where there are any."""


DISK_FULL = "the disk is full"
KINDS: Mapping[str, Kind] = {
    "a node loses power": Kind(3, 5, 30),
    "a task is cancelled": Kind(4),
    DISK_FULL: Kind(1.5, 3, 15, says="No space left on device"),
    "a worker is frozen": Kind(3, 5, 90),
    "a worker is killed": Kind(4),
    "a worker and its witness are killed": Kind(3),
    "a slurmstepd is killed": Kind(1),
    "the controller is killed": Kind(4),
    "slurmctld is away": Kind(1.5, 2, 15),
    "a slurmd is restarted": Kind(2),
    "slurmdbd is restarted": Kind(1),
}
TIME_LIMIT = "a time limit is reached"
"""Nobody has to cause it: tasks have less time than their tars take."""


@dataclass(frozen=True)
class Planned:
    """A fault to come."""

    at_s: float
    """Seconds since the soak began."""
    kind: str
    lasts_s: float
    chance: int
    """Seed of what is random when it comes: what it hits."""


def plan_faults(
    seed: int, seconds: float, *, every_s: float, kinds: Mapping[str, Kind] = KINDS, quiet_s: float = 5.0
) -> list[Planned]:
    """Faults in `seconds`, on average one in `every_s`, after a beginning without any.

    Each kind once before any is drawn by its weight, in an order that the seed decides, as far as the time goes.
    """
    source = random.Random(seed)
    first = source.sample(sorted(kinds), len(kinds))
    names, weights = sorted(kinds), [kinds[name].weight for name in sorted(kinds)]
    found: list[Planned] = []
    at = quiet_s + source.expovariate(1 / every_s)
    while at < seconds:
        name = first.pop() if first else source.choices(names, weights)[0]
        lasts = source.uniform(kinds[name].shortest_s, kinds[name].longest_s)
        found.append(Planned(at, name, lasts, source.randrange(2**32)))
        at += source.expovariate(1 / every_s)
    return found
