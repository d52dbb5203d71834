"""Pure: whether trials made the same of each clip, and which nodes did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audio_tokenizers.shared.wording import counted
from tools.rehearsing.results import ClipId, Made

__all__ = ["Difference", "by_device", "differences", "odd_nodes"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where what a trial made differs from what it should have made."""

    clips: int
    """Clips with other bytes, or that only one of the two has."""
    of: int
    first: str
    """The first of them; empty if only features differ."""

    def __str__(self) -> str:
        words = f"{self.clips:,} of {counted(self.of, 'clip')} differ"
        return f"{words}, the first is {self.first}" if self.first else "features differ, and no line"


def differences(expected: Made, found: Made) -> Difference | None:
    """Compare bit for bit, clip by clip; None if all is the same."""
    keys = sorted(expected.lines.keys() | found.lines.keys())
    differing = [key for key in keys if expected.lines.get(key) != found.lines.get(key)]
    if differing:
        return Difference(len(differing), len(keys), differing[0].name)
    if expected.features != found.features:
        return Difference(0, len(keys), "")
    return None


def odd_nodes(nodes: Mapping[str, Made]) -> dict[str, Difference]:
    """Node -> how it differs from what most nodes made of each clip. Of a tie, all nodes are named."""
    most: dict[ClipId, bytes | None] = {}
    tied: set[ClipId] = set()
    for clip in sorted({clip for made in nodes.values() for clip in made.lines}):
        votes = Counter(made.lines.get(clip) for made in nodes.values()).most_common(2)
        most[clip] = votes[0][0]
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            tied.add(clip)
    features = Counter(tuple(sorted(made.features.items())) for made in nodes.values())
    usual = features.most_common(1)[0][0] if features else ()
    found: dict[str, Difference] = {}
    for node, made in nodes.items():
        differing = [clip for clip, line in most.items() if clip in tied or made.lines.get(clip) != line]
        if differing:
            found[node] = Difference(len(differing), len(most), differing[0].name)
        elif tuple(sorted(made.features.items())) != usual:
            found[node] = Difference(0, len(most), "")
    return found


def by_device(nodes: Sequence[tuple[str, Made]]) -> dict[str, dict[str, Made]]:
    """Device -> nodes that have it: only the same device promises the same bits."""
    found: dict[str, dict[str, Made]] = {}
    for node, made in nodes:
        found.setdefault(made.device, {})[node] = made
    return found
