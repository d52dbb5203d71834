"""tools/comparing/report.py: the table."""

from __future__ import annotations

import numpy as np

from tools.comparing.agreement import Agreement
from tools.comparing.report import render


def test_a_difference_is_never_rounded_away() -> None:
    """One token in ten million: 99.9999 %, and the line that says where."""
    found = Agreement()
    ours = np.zeros(10_000_000, np.int8)
    theirs = ours.copy()
    theirs[5] = 1
    found.add("a", 1.0, {"tokens": ours}, {"tokens": theirs})
    found.add("b", 40.0, {"tokens": ours[:4]}, {"tokens": ours[:4]})
    lines = render(found, 0, []).splitlines()
    assert lines[0].split() == ["under", "2", "s", "over", "30", "s", "all"]
    assert lines[1].split() == ["clips", "1", "1", "2"]
    assert lines[2].split() == ["tokens", "99.9999%", "100.0000%", "99.9999%"]
    assert lines[3] == "10,000,003 of 10,000,004 tokens agree; 1 of 2 clips agree in all"
    assert lines[4].startswith("first difference: a (1.00 s): tokens, token 5 of 10000000")


def test_refusals() -> None:
    """Clips without tokens are counted, those of one engine named; names of others reach the terminal harmlessly."""
    found = Agreement()
    found.add("a", 1.0, {"tokens": np.zeros(3)}, {"tokens": np.zeros(3)})
    words = render(found, 2, [f"clip\x1b[{n}: ours: too_short" for n in range(7)])
    assert "2 more clips would be error records of the same kind with either engine" in words
    assert "and 2 more clips that only one engine refuses" in words
    assert "\x1b" not in words
