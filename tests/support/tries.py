"""Tries of workers for tests of what hpc.policy makes of them, in few words."""

from __future__ import annotations

from typing import Any

from hpc.policy import TarFact
from hpc.tries import Evidence, NodeTry
from jobs.progress import Try

__all__ = ["at", "good", "history", "killed", "tars"]


def tars(names: str, **changes: Any) -> list[TarFact]:
    """One tar per letter; `a={...}` changes the facts of one."""
    return [TarFact(name, **{"done": False, **changes.get(name, {})}) for name in names]


def at(name: str, outcome: Any = "working", node: str = "n1", **details: Any) -> NodeTry:
    """A try at a tar."""
    return NodeTry(node, Try(name, outcome, problem=f"{name} says {outcome}", **details))


def good(name: str, node: str = "n1") -> NodeTry:
    """A try that made lines and committed."""
    return at(name, "committed", node, gained=9)


def killed(name: str, clip: int = 7, node: str = "n1", gained: int = 0, told: tuple[int, ...] = ()) -> NodeTry:
    """A try whose worker died with a clip in hand."""
    return at(name, "died", node, clip=clip, gained=gained, crash_clips=told)


def history(*submissions: list[NodeTry], silent: int = 0) -> list[Evidence]:
    """Submissions that have ended, in turn; `silent` are tasks of the last."""
    last = len(submissions)
    return [
        Evidence(number, ended=True, tries=tuple(tries), silent=silent if number == last else 0)
        for number, tries in enumerate(submissions, 1)
    ]
