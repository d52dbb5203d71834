"""tools/comparing/agreement.py: counts by codebook and length of clip."""

from __future__ import annotations

import numpy as np

from tools.comparing.agreement import Agreement


def test_equal_clips() -> None:
    """Every codebook has share 1, in the class of each clip's length and in all; there is no first difference."""
    found = Agreement()
    codes = np.arange(20).reshape(2, 10)
    for seconds in (1.99, 2.0, 9.9, 10.0, 30.0):
        found.add("a", seconds, {"tokens": codes}, {"tokens": codes.copy()})
    assert found.clips == {"under 2 s": 1, "2 to 10 s": 2, "10 to 30 s": 1, "over 30 s": 1}
    assert found.codebooks == ["tokens[0]", "tokens[1]"]
    assert {found.share(name, length) for name in found.codebooks for length in (*found.clips, None)} == {1.0}
    assert (found.lowest, found.differing, found.first) == (1.0, 0, None)
    assert sum(found.total.values()) == 100


def test_differences() -> None:
    """They count in their own codebook and class alone, and the first one is told with its place and both values."""
    found = Agreement()
    ours = np.arange(20).reshape(2, 10)
    theirs = ours.copy()
    theirs[1, [4, 7]] = 99
    found.add("first", 5.0, {"tokens": ours}, {"tokens": ours})
    found.add("second", 5.0, {"tokens": ours}, {"tokens": theirs})
    found.add("third", 20.0, {"tokens": ours}, {"tokens": np.zeros_like(ours)})
    assert found.share("tokens[0]", "2 to 10 s") == 1.0
    assert found.share("tokens[1]", "2 to 10 s") == 18 / 20
    assert found.share("tokens[1]", "10 to 30 s") == 0.0
    assert found.lowest == found.share("tokens[1]") == 18 / 30
    assert found.differing == 2
    assert str(found.first) == ("second (5.00 s): tokens[1], token 4 of 10 (at 2.00 s) is 14, upstream's is 99")


def test_lengths_that_differ() -> None:
    """Tokens that one engine lacks count as different, also where it has none."""
    found = Agreement()
    found.add(
        "a", 1.0, {"vq02": np.array([1, 2]), "vq06": np.array([3])}, {"vq02": np.array([1, 2, 5]), "vq06": np.zeros(0)}
    )
    assert (found.share("vq02"), found.share("vq06"), found.differing) == (2 / 3, 0.0, 1)
    assert found.first is not None
    assert (found.first.index, found.first.own, found.first.upstream) == (2, "none", "5")


def test_nothing() -> None:
    """Without tokens there is no share, and nothing agrees."""
    assert (Agreement().lowest, Agreement().share("tokens")) == (0.0, None)
