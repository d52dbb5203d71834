"""jobs/gap_finder.py: where something is missing between what was decoded, by times."""

from __future__ import annotations

import random
from functools import partial

import pytest
from support.near import approx

from jobs.gap_finder import GapFinder


def test_gaps_by_places() -> None:
    """Whatever frames are missing, and however they come in pieces: after how much of the others, and how much."""
    for seed in range(100):
        chance = random.Random(seed)
        there = [True, *(chance.random() < 0.7 for _ in range(30)), True]
        with_begins = chance.random() < 0.5
        finder = GapFinder(
            partial(lambda place, both: (place * 0.02 if both else None, (place + 1) * 0.02), both=with_begins)
        )
        expected: list[tuple[float, float]] = []
        for number, is_there in enumerate(there):
            if is_there:
                for _ in range(2):
                    finder.hear(number, 0.01)
            elif there[number - 1]:
                expected.append((sum(there[:number]) * 0.02, 0.02))
            else:
                expected[-1] = (expected[-1][0], expected[-1][1] + 0.02)
        found = finder.gaps()
        assert len(found) == len(expected)
        for one, right in zip(found, expected, strict=True):
            assert one == pytest.approx(right)


def test_what_is_left_out_at_both_ends_is_no_gap() -> None:
    """An encoder's padding: the first frame lacks its beginning, the last one its end."""
    finder = GapFinder(lambda place: (place * 0.5, (place + 1) * 0.5))
    for place, seconds in enumerate((0.1, 0.5, 0.5, 0.2)):
        finder.hear(place, seconds)
    assert finder.gaps() == []


def test_what_has_no_place_counts_as_heard() -> None:
    """Noise that a decoder made of damage: of the gap that much less is missing."""
    finder = GapFinder(lambda place: None if place == 1 else (place * 1.0, place + 1.0))
    for place, seconds in ((0, 1.0), (1, 0.4), (3, 1.0), (None, 1.0)):
        finder.hear(place, seconds)
    assert finder.gaps() == [(1.4, approx(1.6))]


@pytest.mark.parametrize(
    ("times", "gaps"),
    [
        ([0.0, 1.0, 2.005, 3.0], []),
        ([0.0, 1.0, 5.0, 6.0], [(2.0, 3.0)]),
        ([7.0, 8.0, 12.0, 13.0], [(2.0, 3.0)]),
        ([0.0, 1.0, 5.0, 3.0], []),  # one time is wrong
        ([0.0, 1.0, 5.0, 5.9], []),  # they say less than there is
        ([0.0, 4.0, 5.009, 6.018, 7.027, 8.036, 9.045, 10.054, 11.063], []),  # and here more
    ],
)
def test_gaps_by_times(times: list[float], gaps: list[tuple[float, float]]) -> None:
    """None are told where times say anything else than what was decoded and what is missing."""
    finder = GapFinder()
    for time in times:
        finder.hear_at(time, 1.0)
    assert finder.gaps() == gaps


def test_no_times_no_gaps() -> None:
    """And none where the times are in doubt."""
    finder = GapFinder()
    finder.hear(3, 1.0)
    finder.hear(9, 1.0)
    assert finder.gaps() == []
    finder = GapFinder()
    finder.hear_at(0.0, 1.0)
    finder.hear_at(9.0, 1.0)
    finder.doubt()
    assert finder.gaps() == []
