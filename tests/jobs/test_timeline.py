"""jobs/timeline.py: where times of a recording are in what was decoded of it."""

from __future__ import annotations

import random

from jobs.timeline import Timeline


def test_places_of_what_is_there_and_of_what_is_missing() -> None:
    """Whatever the gaps, two in one place and one at the beginning among them."""
    chance = random.Random(3)
    for _ in range(200):
        there = [chance.random() < 0.7 for _ in range(chance.randint(1, 60))]
        gaps: list[tuple[int, int]] = []
        for number, is_there in enumerate(there):
            if not is_there:
                gaps.append((sum(there[:number]), 1))
        timeline = Timeline(gaps if chance.random() < 0.5 else _joined(gaps))
        assert timeline.missing == there.count(False)
        assert [timeline.place(at) for at in range(len(there) + 1)] == [sum(there[:at]) for at in range(len(there) + 1)]


def _joined(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(at, sum(missing for other, missing in gaps if other == at)) for at in sorted({at for at, _ in gaps})]


def test_without_gaps_all_is_where_it_was() -> None:
    """And so it is with gaps of no length."""
    assert [Timeline(gaps).place(7) for gaps in ([], [(3, 0)])] == [7, 7]
