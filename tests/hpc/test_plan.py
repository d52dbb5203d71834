"""hpc/plan.py: every tar in exactly one slot, the largest slot small, and the same plan each time."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.small_run import mulaw_spec

from hpc.plan import Plan, balance, make_plan
from jobs.outputs import TarTask

sizes = st.lists(st.one_of(st.just(0), st.integers(0, 20), st.integers(0, 10**12)), max_size=40)


def tasks_of(given_sizes: list[int]) -> list[TarTask]:
    return [TarTask(f"/data/{number}.tar", str(number), size) for number, size in enumerate(given_sizes)]


def loads(slots: tuple[tuple[TarTask, ...], ...]) -> list[int]:
    return [sum(task.bytes for task in slot) for slot in slots]


@given(sizes, st.integers(1, 50))
def test_every_tar_is_in_exactly_one_slot(given_sizes: list[int], workers: int) -> None:
    """No tar is lost or given twice, no slot is empty, and there are never more slots than workers or tars."""
    tasks = tasks_of(given_sizes)
    slots = balance(tasks, workers)
    assert sorted((task for slot in slots for task in slot), key=lambda task: int(task.name)) == tasks
    assert len(slots) == min(workers, len(tasks))
    assert all(slots)


@given(sizes.filter(any), st.integers(1, 12))
def test_largest_slot_is_within_the_bound(given_sizes: list[int], workers: int) -> None:
    """The largest slot keeps Graham's bound for list scheduling, and so is at most twice the best that any plan has."""
    found = loads(balance(tasks_of(given_sizes), workers))
    used = len(found)
    mean, largest = sum(given_sizes) / used, max(given_sizes)
    assert max(found) <= mean + largest * (1 - 1 / used) + 1e-3
    assert max(found) <= 2 * max(mean, largest) + 1e-3


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 4))
def test_largest_slot_is_within_four_thirds_of_the_best(given_sizes: list[int], workers: int) -> None:
    """Longest first is within 4/3 - 1/3m of the optimum, here found by trying every plan."""
    tasks = tasks_of(given_sizes)
    best = [0] * workers
    states = {tuple(best)}
    for size in given_sizes:
        states = {
            tuple(sorted((*state[:slot], state[slot] + size, *state[slot + 1 :])))
            for state in states
            for slot in range(workers)
        }
    optimum = min(state[-1] for state in states)
    assert max(loads(balance(tasks, workers))) <= (4 / 3 - 1 / (3 * workers)) * optimum + 1e-9


@given(sizes, st.integers(1, 12), st.randoms())
def test_plan_is_stable_and_keeps_the_order_of_the_list(given_sizes: list[int], workers: int, random: object) -> None:
    """The same list gives the same plan; a slot works in the list's order."""
    tasks = tasks_of(given_sizes)
    slots = balance(tasks, workers)
    assert balance(list(tasks), workers) == slots
    for slot in slots:
        positions = [int(task.name) for task in slot]
        assert positions == sorted(positions)


def test_tars_of_unknown_size_are_spread() -> None:
    """Tars that cannot be seen from here count 0 bytes, and still do not all go to one worker."""
    assert [len(slot) for slot in balance(tasks_of([0] * 9), 3)] == [3, 3, 3]


def test_plan_file_round_trips() -> None:
    """What a worker reads is what was planned, with the options and wishes of this submission."""
    plan = make_plan(tasks_of([5, 1, 3]), 2, mulaw_spec(), retry_errors=True, allow_missing_end=True)
    again = msgspec.json.decode(msgspec.json.format(msgspec.json.encode(plan)), type=Plan)
    assert again == plan
    assert plan.fingerprint == mulaw_spec().fingerprint
    assert plan.bytes == 9
    assert (plan.retry_errors, plan.allow_missing_end) == (True, True)
