"""hpc/tries.py: what a try shows of its node, and whether it came further than those before it."""

from __future__ import annotations

import pytest
from support.tries import at, history

from hpc.tries import is_good, without_repeats
from jobs.progress import Kept, Try


@pytest.mark.parametrize(
    ("attempt", "good"),
    [
        (Try("a", "yielded"), False),
        (Try("a", "yielded", gained=1), True),
        (Try("a", "yielded", gained=1, crash_clips=(0,)), False),
        (Try("a", "died", gained=1, clip=3), True),
        (Try("a", "died", gained=1, clip=3, crash_clips=(2,)), False),
        (Try("a", "yielded", kept=Kept(3, 0, 5)), True),
        (Try("a", "died", clip=3, kept=Kept(3, 4, 5)), True),
        (Try("a", "died", clip=3, kept=Kept(3, 5, 5)), False),
    ],
)
def test_a_node_works_where_a_model_made_something(attempt: Try, good: bool) -> None:
    """Lines beyond those that need no model, or fragments of a long clip."""
    assert is_good(attempt) is good


def test_what_is_made_again_is_no_progress() -> None:
    """Of one clip only what lies beyond all tries before counts, submission by submission; each tar and clip for itself."""
    tries = history(
        [at("a", kept=Kept(3, 0, 50)), at("b", kept=Kept(3, 0, 10)), at("a")],
        [at("a", kept=Kept(3, 0, 40)), at("a", kept=Kept(4, 0, 10)), at("b", kept=Kept(3, 10, 20))],
        [at("a", kept=Kept(3, 0, 60)), at("a", kept=Kept(3, 60, 60)), at("a", gained=1, kept=Kept(3, 0, 5))],
    )
    found = [[each.attempt for each in one.tries] for one in without_repeats(tries)]
    assert [[attempt.came_on for attempt in attempts] for attempts in found] == [
        [True, True, False],
        [False, True, True],
        [True, False, True],
    ]
    assert [attempt.kept for attempt in found[2]] == [Kept(3, 50, 60), Kept(3, 60, 60), Kept(3, 5, 5)]
