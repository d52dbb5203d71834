"""tools/packing/pairs.py: what is excluded by a pattern, and how a data set is described."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.packing.pairs import SourceOptions, describe_found, is_excluded, is_outside

NAME = "中文 - Chinese/带变量语音 - Placeholder/vo_1.wav"


@pytest.mark.parametrize(
    "pattern", ["带变量语音 - Placeholder", "*Placeholder", "vo_1", "vo_1.wav", "vo_?", "中文*", "*/vo_1.*", NAME]
)
def test_patterns_that_exclude(pattern: str) -> None:
    """A pattern is a glob of the whole path, or of a folder in it, or of the file's name with or without extension."""
    assert is_excluded(NAME, [pattern])


@pytest.mark.parametrize("pattern", ["Placeholder", "vo", "wav", "*.lab", "VO_1"])
def test_patterns_that_do_not(pattern: str) -> None:
    """A pattern has to fit all of a part, in its case: `Placeholder` is no wish to exclude whatever has it in its name."""
    assert not is_excluded(NAME, [pattern])


def test_the_share_that_is_packed() -> None:
    """Which clips these are never changes: later versions and other machines pack the same."""
    tenth = SourceOptions(subset_ratio=0.1, scratch=Path("scratch"))
    assert [number for number in range(40) if not is_outside(f"a/{number}", tenth)] == CHOSEN
    assert not is_outside("a/1", SourceOptions(scratch=Path("scratch")))


CHOSEN = [12]


def test_what_was_found() -> None:
    """The commonest kinds of files, with their numbers."""
    assert describe_found(Counter({".mp3": 1200, ".csv": 3})) == "1,200 .mp3, 3 .csv"
    assert describe_found(Counter()) == "nothing"
    assert describe_found(Counter({f".{n}": 1 for n in range(20)})).endswith(", and others")
