"""jobs/memory_guard.py: who yields for memory and who goes on, decided from readings alone; looks are rare."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_tokenizers.errors import UsageError
from jobs.memory_guard import LOOK_SECONDS, SOON_SECONDS, MemoryGuard, parse_memory_guard, shortage
from jobs.memory_readings import MemoryReader, Room

GB = 10**9


def room(total: float, free: float) -> Room:
    return Room("the control group x", int(total * GB), int(free * GB))


class TestDecision:
    def test_at_the_guard_and_not_before(self) -> None:
        """A worker with a limit to itself yields when the guard's share of it is taken, in words with all numbers."""
        assert shortage([room(40, 4.1)], int(35.9 * GB), 1, 0.9) == ""
        words = shortage([room(40, 4)], 36 * GB, 1, 0.9)
        assert words == (
            "memory is short: the control group x has 4.00 of 40.00 GB left, and this worker holds 36.00 GB "
            "(--memory-guard 0.9)"
        )

    def test_any_limit_counts(self) -> None:
        """The tightest one decides, wherever it stands."""
        assert "control group" in shortage([room(100, 50), room(40, 1)], 39 * GB, 1, 0.9)

    def test_strangers_who_fill_the_machine(self) -> None:
        """What others hold is no reason to yield, as long as there is room for what this worker may still need."""
        assert shortage([room(256, 6)], 2 * GB, 1, 0.9) == ""
        assert shortage([room(256, 0.2)], 2 * GB, 1, 0.9) != ""

    def test_the_largest_of_several_workers_yields_first(self) -> None:
        """At the guard of what they share; the small ones go on, with what it gives back."""
        rooms = [room(40, 4)]
        assert shortage(rooms, 30 * GB, 4, 0.9) != ""
        assert shortage(rooms, 2 * GB, 4, 0.9) == ""
        assert shortage([room(40, 11)], 23 * GB, 4, 0.9) == ""

    @given(
        st.lists(st.integers(1, 10 * GB), min_size=1, max_size=8),
        st.integers(1, 100 * GB),
        st.floats(0.1, 1.0),
    )
    def test_somebody_yields_before_the_limit(self, held: list[int], total: int, guard: float) -> None:
        """Where the workers alone fill a limit up to the guard, the largest of them always yields; below it, nobody does."""
        used = sum(held)
        limit = Room("x", total, max(0, total - used))
        yields = [shortage([limit], own, len(held), guard) != "" for own in held]
        if used >= total * guard * 1.001 and used <= total:
            assert yields[held.index(max(held))]
        if used < total * guard * 0.999:
            assert not any(yields)

    def test_nothing_read(self) -> None:
        """Where nothing can be read, nobody yields."""
        assert shortage([], GB, 1, 0.9) == ""
        assert shortage([room(40, 0)], 0, 1, 0.9) == ""


class Readings(MemoryReader):
    """A worker of a gigabyte, unless told otherwise, in an otherwise empty group of forty."""

    def __init__(self) -> None:
        self.held = GB
        self.asked: list[int] = []

    def own(self) -> int:
        return self.held

    def rooms(self, held: int) -> list[Room]:
        self.asked.append(held)
        return [Room("the control group x", 40 * GB, 40 * GB - held)]


def test_looks_are_rare(tmp_path: Path) -> None:
    """However often it is called it looks every half second, and more often when it may soon be time; off, it never does."""
    now = 0.0
    readings = Readings()
    guard = MemoryGuard(0.9, 3, readings, clock=lambda: now)
    assert [guard() for _ in range(9)] == [""] * 9
    now += LOOK_SECONDS * 0.9
    assert guard() == ""
    assert readings.asked == [3 * GB]
    now += LOOK_SECONDS * 0.2
    readings.held = 9 * GB
    assert guard() == ""
    readings.held = 12 * GB
    now += SOON_SECONDS * 0.9
    assert guard() == ""
    assert readings.asked == [3 * GB, 27 * GB]
    now += SOON_SECONDS * 0.2
    assert "this worker holds 12.00 GB" in guard()
    assert MemoryGuard(0, 3, readings, clock=lambda: now)() == ""
    assert readings.asked == [3 * GB, 27 * GB, 36 * GB]


def test_option() -> None:
    """A share from 0 to 1."""
    assert (parse_memory_guard("0.9"), parse_memory_guard(0), parse_memory_guard("1")) == (0.9, 0.0, 1.0)
    for wrong in ("90", "-0.1", "much", "90%", math.nan):
        with pytest.raises(UsageError, match="--memory-guard"):
            parse_memory_guard(wrong)
