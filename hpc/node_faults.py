"""Pure: which nodes are to blame for failed tries, and which clips are blamed with certainty.

A clip that kills its worker and a node that kills it look alike, so a node is cleared once the same clip has killed a worker
elsewhere too. Where there is no other node, a success just before clears the node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from hpc.outside_kills import OutsideKills
from hpc.tries import Death, Evidence, NodeTry, failed, follows_a_line, is_good

__all__ = ["SAME_TROUBLE_TARS", "Nodes", "judge_nodes"]

NODE_FAILURES = 2
"""Failed tries on a node, with fewer successes there, after which it is avoided."""
SAME_TROUBLE_TARS = 3
"""Different tars in machine trouble, without progress anywhere, after which something that all share is blamed."""


@dataclass(frozen=True)
class Nodes:
    """What is known about the nodes."""

    suspects: Collection[str]
    """Failures there count against no tar and no clip."""
    excluded: dict[str, str]
    """Node -> why it is avoided, since others work."""
    sound: Collection[Death]
    """Clips that killed a worker just after a success: on that node, in that submission."""
    elsewhere: Collection[Death]
    """Clips that killed workers on two nodes that have both worked."""


def judge_nodes(evidence: Sequence[Evidence], kills: OutsideKills) -> Nodes:
    """Judge the nodes by all tries, oldest submission first."""
    worked = {each.node for one in evidence for each in one.tries if is_good(each.attempt)}
    places: dict[Death, set[str]] = defaultdict(set)
    places_of_tar: dict[str, set[str]] = defaultdict(set)
    sound: set[Death] = set()
    for one in evidence:
        good = {each.node for each in one.tries if is_good(each.attempt)}
        for each in one.tries:
            if failed(each.attempt):
                key = each.attempt.name, each.attempt.clip
                places[key].add(each.node)
                places_of_tar[each.attempt.name].add(each.node)
                if each.attempt.clip is not None and each.node in good:
                    sound.add(key)
    elsewhere = {key for key, nodes in places.items() if key[1] is not None and len(nodes & worked) > 1}

    def tried_elsewhere(each: NodeTry) -> bool:
        name = each.attempt.name
        found = places_of_tar[name] if each.attempt.several else places[name, each.attempt.clip]
        return bool((found - {each.node}) & worked)

    def likely_the_clip(each: NodeTry) -> bool:
        return each.attempt.several or (each.attempt.name, each.attempt.clip) in sound or follows_a_line(each.attempt)

    failures = {node: found for node, found in _failures(evidence, tried_elsewhere).items() if len(found) >= NODE_FAILURES}
    shunned = kills.shunned(worked)
    if worked - set(failures) - set(shunned):
        words = shunned | {node: _why_avoided([each.attempt.name for each in found]) for node, found in failures.items()}
        return Nodes(set(words), words, sound, elsewhere)
    shared = {
        node
        for node, found in _failures(evidence, likely_the_clip).items()
        if len({each.attempt.name for each in found}) >= SAME_TROUBLE_TARS
    }
    return Nodes(shared, {}, sound, elsewhere)


def _failures(evidence: Sequence[Evidence], explained: Callable[[NodeTry], bool]) -> dict[str, list[NodeTry]]:
    """Node -> unexplained failures there since the last submission with at least as many successes.

    One bad GPU fails fast and takes try after try, while the other GPUs of its node succeed slowly.
    """
    since: dict[str, list[NodeTry]] = defaultdict(list)
    for one in evidence:
        good = Counter(each.node for each in one.tries if is_good(each.attempt))
        bad: dict[str, list[NodeTry]] = defaultdict(list)
        alone = _alone_without_storage(one)
        for each in one.tries:
            unwell = failed(each.attempt) or (each.attempt.storage == "away" and each.node == alone)
            if unwell and not is_good(each.attempt) and not explained(each):
                bad[each.node].append(each)
        for node in good.keys() | bad.keys():
            if good[node] and good[node] >= len(bad[node]):
                since.pop(node, None)
            else:
                since[node] += bad[node]
    return since


def _alone_without_storage(one: Evidence) -> str | None:
    """The only node that could not write its results, if others could."""
    without = {each.node for each in one.tries if each.attempt.storage}
    others = any(is_good(each.attempt) for each in one.tries if each.node not in without)
    return without.pop() if len(without) == 1 and others else None


def _why_avoided(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(set(names))[:3])
    return f"{len(names)} tries failed on it and no more than that succeeded, while other nodes work ({shown})"
