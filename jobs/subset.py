"""Pure: which clips are in a share of all, by a hash of their identity.

The same clips are in it on any machine and in any order, and a larger share contains a smaller one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audio_tokenizers.errors import UsageError
from jobs.addresses import place_of
from jobs.tar_paths import TarPaths

if TYPE_CHECKING:
    from jobs.tar_source import TarSource

__all__ = ["Subset", "check_ratio", "in_share"]


def in_share(name: Sequence[object], ratio: float, purpose: str) -> bool:
    """Whether the clip with this identity is in a share of `ratio`. Shares for different purposes are independent."""
    text = "\0".join(map(str, name)).encode("utf-8", "backslashreplace")
    digest = hashlib.blake2b(text, digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") < ratio * 2**64


def check_ratio(ratio: float) -> float:
    """The value of --subset-ratio. Raises UsageError unless it is above 0 and at most 1."""
    if not 0 < ratio <= 1:
        raise UsageError(f"--subset-ratio {ratio:g}: expected a share of the clips, above 0 and at most 1, such as 0.1")
    return ratio


@dataclass(frozen=True, slots=True)
class Subset:
    """The share of one tar's clips that a run takes. All parts of an audio member are in it, or none."""

    ratio: float
    tar: str
    """The tar's name without folders and suffix."""

    @classmethod
    def of(cls, ratio: float, tar: TarSource) -> Subset | None:
        """That of a run, for one of its tars; None for all clips."""
        return None if ratio == 1 else cls(ratio, TarPaths.stem(place_of(str(tar))))

    def has(self, member: str) -> bool:
        """Whether the audio member of this name is in it."""
        return in_share((self.tar, member), self.ratio, "tokenize")
