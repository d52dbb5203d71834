"""Pure: workers that are killed from outside again and again. No tar or clip is to blame, but it cannot go on forever."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from jobs.progress import Try

__all__ = ["KILLS_REPORTED", "OutsideKills", "count_kills"]

KILLS_REPORTED = 5
"""Kills in a row, without a success in between, that are reported. Nobody ends workers by hand that often."""


@dataclass
class OutsideKills:
    """Workers that were killed from outside without having made progress."""

    of_tar: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Tar -> nodes where a worker was killed with it in hand, since the tar's last progress."""
    on_node: Counter[str] = field(default_factory=Counter)
    """Node -> how many since the last success there."""
    anywhere: list[str] = field(default_factory=list)
    """Nodes of the kills since the last success anywhere."""
    words: dict[str, str] = field(default_factory=dict)
    """Tar -> the problem reported by the last of them."""

    def forgive(self, nodes: Collection[str]) -> None:
        """Blame these nodes, and no tar, for the kills on them."""
        self.of_tar = {tar: [node for node in theirs if node not in nodes] for tar, theirs in self.of_tar.items()}
        self.anywhere = [node for node in self.anywhere if node not in nodes]

    def of(self, tar: str) -> str:
        """Why a tar is given up for now; empty if it is not."""
        nodes = self.of_tar.get(tar, [])
        return f"{self.words[tar]} ({len(nodes)} times)" if len(nodes) >= KILLS_REPORTED else ""

    def diagnosis(self, patience: int) -> str:
        """Why the run cannot go on; empty if it can. At least `patience` kills are needed, whichever tars they hit."""
        if len(self.anywhere) < max(patience, KILLS_REPORTED):
            return ""
        return f"workers were killed {_times(self.anywhere)} without a memory event: someone or something there kills them"

    def shunned(self, worked: set[str]) -> dict[str, str]:
        """Node -> why to avoid it: workers only get killed there, while other nodes work."""
        return {
            node: f"{number} workers in a row were killed on it without a memory event: someone or something there does it"
            for node, number in self.on_node.items()
            if number >= KILLS_REPORTED and worked - {node}
        }


def count_kills(tries: Iterable[tuple[str, Try]], is_good: Callable[[Try], bool]) -> OutsideKills:
    """Count kills over all (node, try) pairs, in order."""
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
