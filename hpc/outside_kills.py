"""Pure: workers that somebody kills, again and again. It is no tar's and no clip's fault, but it must come to an end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from jobs.reporting import Try

__all__ = ["KILLS_TOLD", "OutsideKills", "count_kills"]

KILLS_TOLD = 5
"""In a row, without anything that went well in between. A person who ends a worker by hand does not do it so often."""


@dataclass
class OutsideKills:
    """Workers that were killed from outside, and gained nothing."""

    of_tar: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Tar -> nodes of those that had it in hand, since it last came on."""
    on_node: Counter[str] = field(default_factory=Counter)
    """Node -> how many, since something last went well there."""
    anywhere: list[str] = field(default_factory=list)
    """Their nodes, since something last went well anywhere."""
    words: dict[str, str] = field(default_factory=dict)
    """Tar -> what was said of the last of them."""

    def forgive(self, nodes: Collection[str]) -> None:
        """What happened on these nodes is theirs."""
        self.of_tar = {tar: [node for node in theirs if node not in nodes] for tar, theirs in self.of_tar.items()}
        self.anywhere = [node for node in self.anywhere if node not in nodes]

    def of(self, tar: str) -> str:
        """Why a tar is given up for now, or nothing."""
        nodes = self.of_tar.get(tar, [])
        return f"{self.words[tar]} ({len(nodes)} times)" if len(nodes) >= KILLS_TOLD else ""

    def diagnosis(self, patience: int) -> str:
        """What keeps the run from going on, or nothing; `patience`: kills that are too few yet, whoever they hit."""
        if len(self.anywhere) < max(patience, KILLS_TOLD):
            return ""
        return f"workers were killed {_times(self.anywhere)} without a memory event: someone or something there kills them"

    def shunned(self, worked: set[str]) -> dict[str, str]:
        """Nodes where workers only get killed, while others work, and why."""
        return {
            node: f"{number} workers in a row were killed on it without a memory event: someone or something there does it"
            for node, number in self.on_node.items()
            if number >= KILLS_TOLD and worked - {node}
        }


def count_kills(tries: Iterable[tuple[str, Try]], is_good: Callable[[Try], bool]) -> OutsideKills:
    """Count over all tries, each with its node, in their order."""
    kills = OutsideKills()
    for node, attempt in tries:
        if attempt.came_on or attempt.outcome in ("committed", "damaged"):
            kills.of_tar.pop(attempt.name, None)
        if is_good(attempt) or attempt.outcome in ("committed", "damaged"):
            kills.on_node.pop(node, None)
            kills.anywhere.clear()
        if attempt.outcome == "killed" and not attempt.came_on:
            kills.of_tar[attempt.name].append(node)
            kills.words[attempt.name] = attempt.problem
            kills.on_node[node] += 1
            kills.anywhere.append(node)
    return kills


def _times(nodes: list[str]) -> str:
    """`5 times on n1, once on n2`."""
    return ", ".join(
        f"{number} times on {node}" if number > 1 else f"once on {node}" for node, number in Counter(nodes).most_common(3)
    )
