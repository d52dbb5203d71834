"""Pure: how many tokens of two engines agree, by codebook and by the length of the clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LENGTHS", "Agreement", "Difference"]

Array = npt.NDArray[Any]
LENGTHS = (("under 2 s", 2.0), ("2 to 10 s", 10.0), ("10 to 30 s", 30.0), ("over 30 s", math.inf))
"""Classes of clips: their names, and the seconds below which a clip is of the class."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where a clip's tokens differ."""

    clip: str
    codebook: str
    index: int
    """Of the token in its codebook, from 0."""
    tokens: int
    """In the longer of the two."""
    seconds: float
    """Of the clip."""
    own: str
    """The token there, or `none` behind the end."""
    upstream: str

    def __str__(self) -> str:
        at = self.seconds * self.index / self.tokens
        return (
            f"{self.clip} ({self.seconds:.2f} s): {self.codebook}, token {self.index} of {self.tokens} (at {at:.2f} s) is "
            f"{self.own}, upstream's is {self.upstream}"
        )


@dataclass
class Agreement:
    """Counts over the clips so far."""

    clips: dict[str, int] = field(default_factory=dict)
    """By class of length."""
    equal: dict[tuple[str, str], int] = field(default_factory=dict)
    """(codebook, class of length) -> tokens that agree."""
    total: dict[tuple[str, str], int] = field(default_factory=dict)
    differing: int = 0
    """Clips with any difference."""
    first: Difference | None = None

    def add(self, clip: str, seconds: float, own: Mapping[str, Array], upstream: Mapping[str, Array]) -> None:
        """Count one clip. Tokens that only one engine gives count as different."""
        length = next(name for name, below in LENGTHS if seconds < below)
        self.clips[length] = self.clips.get(length, 0) + 1
        same = True
        for codebook, ours, theirs in _codebooks(own, upstream):
            tokens, common = max(len(ours), len(theirs)), min(len(ours), len(theirs))
            unequal = np.flatnonzero(ours[:common] != theirs[:common])
            key = codebook, length
            self.equal[key] = self.equal.get(key, 0) + common - len(unequal)
            self.total[key] = self.total.get(key, 0) + tokens
            if len(unequal) or tokens > common:
                same = False
                index = int(unequal[0]) if len(unequal) else common
                found = [str(one[index]) if index < len(one) else "none" for one in (ours, theirs)]
                self.first = self.first or Difference(clip, codebook, index, tokens, seconds, *found)
        self.differing += not same

    @property
    def codebooks(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(codebook for codebook, _ in self.total))

    def share(self, codebook: str, length: str | None = None) -> float | None:
        """The share of a codebook's tokens that agree, in clips of one class of length or in all. None without tokens."""
        keys = [key for key in self.total if key[0] == codebook and length in (None, key[1])]
        total = sum(self.total[key] for key in keys)
        return sum(self.equal[key] for key in keys) / total if total else None

    @property
    def lowest(self) -> float:
        """The share of the codebook in which the fewest agree."""
        shares = (self.share(codebook) for codebook in self.codebooks)
        return min((share for share in shares if share is not None), default=0.0)


def _codebooks(own: Mapping[str, Array], upstream: Mapping[str, Array]) -> Iterator[tuple[str, Array, Array]]:
    """(name, own tokens, upstream's tokens) of each codebook."""
    for key, ours in own.items():
        theirs = upstream[key]
        if ours.ndim == 1:
            yield key, ours, theirs
        else:
            yield from ((f"{key}[{row}]", ours[row], theirs[row]) for row in range(len(ours)))
