"""What a partial holds, without a look at its tokens: lines, and the audio that became tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PartialTally", "is_damaged", "tally_partial"]

READ_BYTES = 1 << 20
HEAD = re.compile(
    rb'\{"tar_file":"(?:[^"\\]|\\.)*","audio_file":"(?:[^"\\]|\\.)*","num_samples":([0-9]{1,18}),'
    rb'"sample_rate":([1-9][0-9]{,17})(?:,"damage":\{"seconds":([0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-]?[0-9]{1,2})?))?[,}]'
)
"""How a line with tokens begins, as jobs/records.py writes it. Further on, `metadata` may hold the same keys."""


@dataclass(frozen=True, slots=True)
class PartialTally:
    """Counts of one file."""

    clips: int
    """Lines that end in a newline."""
    audio_seconds: float
    """Rounded as in a manifest: the commit of these lines changes no sum."""
    damaged_clips: int = 0
    damaged_seconds: float = 0.0
    """What these lack, rounded likewise."""


def is_damaged(line: bytes) -> bool:
    """Whether the line is of a clip that was kept though something of it is missing."""
    head = HEAD.match(line)
    return head is not None and head[3] is not None


def tally_partial(path: Path) -> PartialTally:
    """Read a partial, which may grow meanwhile. Raises FileNotFoundError."""
    clips, seconds, damaged, lost = 0, 0.0, 0, 0.0
    with path.open("rb", buffering=READ_BYTES) as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            clips += 1
            head = HEAD.match(line)
            if head is not None:
                seconds += int(head[1]) / int(head[2])
                if head[3] is not None:
                    damaged, lost = damaged + 1, lost + float(head[3])
    return PartialTally(clips, round(seconds, 3), damaged, round(lost, 3))
