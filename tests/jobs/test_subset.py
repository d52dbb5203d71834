"""jobs/subset.py: shares of clips that stay as data grows, moves and is reordered."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from audio_tokenizers.errors import UsageError
from jobs.remote_tar import RemoteTar
from jobs.subset import Subset, check_ratio, in_share

NAMES = [(f"tar{number % 7}", f"{number}.wav", number % 2) for number in range(2000)]


def test_a_larger_share_contains_a_smaller_one() -> None:
    """Membership is the clip's own: neither order nor company changes it, and the shares have about their sizes."""
    small = {name for name in NAMES if in_share(name, 0.1, "subset")}
    large = {name for name in NAMES if in_share(name, 0.3, "subset")}
    assert small < large
    assert 150 < len(small) < 250
    assert 530 < len(large) < 670
    assert all(in_share(name, 1.0, "subset") for name in NAMES)
    assert not any(in_share(name, 0.0, "test") for name in NAMES)


def test_the_judgement_never_changes() -> None:
    """Runs are continued by later versions and on other machines: these clips are in, and these are not."""
    assert [number for number in range(40) if in_share(("a", f"{number}.wav"), 0.2, "tokenize")] == CHOSEN
    in_share(("a", "broken \udcff name"), 0.5, "tokenize")  # of a file system, not of Unicode


CHOSEN = [3, 9, 12, 15, 21, 24, 29, 33]


def test_a_tar_is_known_by_its_name() -> None:
    """Its folder, its compression and where it is read from do not count."""
    for tar in (Path("/a/x.tar"), Path("/b/x.tar.gz"), RemoteTar("https://host/b/x.tar?token=1")):
        assert Subset.of(0.5, tar) == Subset(0.5, "x")
    assert Subset.of(1.0, Path("x.tar")) is None


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, 10, math.nan, math.inf])
def test_a_ratio_that_is_none(ratio: float) -> None:
    """A percentage, or nothing at all, is refused with what is expected."""
    assert check_ratio(1) == 1
    with pytest.raises(UsageError, match=rf"--subset-ratio {ratio:g}: expected a share of the clips, above 0"):
        check_ratio(ratio)
