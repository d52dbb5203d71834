"""hpc/plan.py: every tar in exactly one slot, the largest slot small, arrays no larger than the site allows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_run import mulaw_spec

from hpc.plan import Plan, balance, chunk, make_plan, probes, slots_for, stop_margin_s
from hpc.task_id import TaskId
from jobs.tar_task import TarTask

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


@given(sizes, st.integers(1, 12))
def test_plan_is_stable_and_keeps_the_order_of_the_list(given_sizes: list[int], workers: int) -> None:
    """The same list gives the same plan; a slot works in the list's order, and what takes longest starts first."""
    tasks = tasks_of(given_sizes)
    slots = balance(tasks, workers)
    assert balance(list(tasks), workers) == slots
    assert loads(slots) == sorted(loads(slots), reverse=True)
    for slot in slots:
        positions = [int(task.name) for task in slot]
        assert positions == sorted(positions)


def test_tars_of_unknown_size_are_spread() -> None:
    """Tars that cannot be seen from here count 0 bytes, and still do not all go to one worker."""
    assert [len(slot) for slot in balance(tasks_of([0] * 9), 3)] == [3, 3, 3]


@given(st.integers(0, 200), st.integers(1, 5), st.integers(1, 30), st.one_of(st.none(), st.integers(0, 60)))
def test_arrays_fit_the_site_and_lose_nothing(count: int, processes: int, max_array: int, room: int | None) -> None:
    """Slots are cut in their order, no array has more elements than MaxArraySize, and all have no more than the room."""
    slots = balance(tasks_of([1] * count), max(count, 1))
    parts = chunk(slots, processes, max_array, room)
    elements = [-(-len(part) // processes) for part in parts]
    assert all(1 <= number <= max_array for number in elements)
    assert sum(elements) <= (room if room is not None else count)
    together = [slot for part in parts for slot in part]
    assert together == list(slots[: len(together)])
    assert len(together) == (count if room is None else min(count, room * processes))


class TestSlots:
    @pytest.mark.parametrize(
        ("tars", "tars_per_gpu", "procs_per_gpu", "slots"), [(10, 1, 1, 10), (10, 1, 2, 10), (10, 4, 1, 3), (10, 4, 2, 5)]
    )
    def test_a_number_of_tars_is_for_the_gpu(self, tars: int, tars_per_gpu: int, procs_per_gpu: int, slots: int) -> None:
        """A GPU gets so many tars however many processes share it; with one tar each there is a slot per tar."""
        assert slots_for(tasks_of([1] * tars), tars_per_gpu, procs_per_gpu, 60.0, None) == slots

    def test_auto_without_a_rate_gives_one_tar_each(self) -> None:
        """Before any tar is done nobody knows how many fit."""
        assert slots_for(tasks_of([5] * 7), "auto", 1, 3600.0, None) == 7

    @given(st.lists(st.integers(1, 10**10), min_size=1, max_size=50), st.integers(60, 10**5), st.floats(1, 1e8))
    def test_auto_fills_its_part_of_the_limit(self, given_sizes: list[int], limit_s: int, rate: float) -> None:
        """On average a slot takes at most 80 % and at least 8 % of the time limit at the known rate."""
        count = slots_for(tasks_of(given_sizes), "auto", 1, limit_s, rate)
        capacity, least = 0.8 * limit_s * rate, 0.08 * limit_s * rate
        assert 1 <= count <= len(given_sizes)
        assert count == len(given_sizes) or sum(given_sizes) / count <= capacity + 1
        assert count == 1 or sum(given_sizes) / (count - 1) >= least - 1

    def test_auto_spreads_what_is_left_at_the_end(self) -> None:
        """A long list fills the limit; the last hour of work goes to many tasks, or everyone would wait for one of them."""
        tasks = tasks_of([100] * 100_000)
        assert slots_for(tasks, "auto", 1, 7200.0, 1.0) == -(-100 * 100_000 // 5760)
        assert slots_for(tasks[:400], "auto", 1, 7200.0, 1.0) == -(-100 * 400 // 576)

    def test_auto_begins_with_one_array(self) -> None:
        """Without a rate one array is tried; a number of tars per GPU, or a rate, needs no trial."""
        slots = balance(tasks_of([1] * 9), 9)
        assert len(probes(slots, "auto", None, 4)) == 4
        assert len(probes(slots, "auto", 5.0, 4)) == len(probes(slots, 1, None, 4)) == 9


@pytest.mark.parametrize(("limit_s", "margin_s"), [(10, 5), (60, 6), (600, 60), (1200, 120), (7200, 120), (10**6, 120)])
def test_margin_scales_with_the_limit(limit_s: float, margin_s: float) -> None:
    """A short job keeps most of its time for work; a long one has enough left for a slow file system."""
    assert stop_margin_s(limit_s) == pytest.approx(margin_s)


class TestPlan:
    def test_file_round_trips(self) -> None:
        """What a worker reads is what was planned, with the options and wishes of this submission."""
        tasks = [*tasks_of([5, 1]), TarTask("/d/x.tar", "x", 3, crash_clips=(4, 9), retry_errors=True)]
        plan = make_plan(
            balance(tasks, 2),
            mulaw_spec(),
            submission=7,
            processes=4,
            time_limit_s=60.0,
            device="cuda",
            options={"pause": 0.5},
            allow_missing_end=True,
            decode_threads=3,
            buffer_memory=10**9,
            memory_guard=0.5,
            clip_timeout=0.0,
            alive={3: [2, 0]},
        )
        assert msgspec.json.decode(msgspec.json.format(msgspec.json.encode(plan)), type=Plan) == plan
        assert plan.fingerprint == mulaw_spec().fingerprint
        assert plan.bytes == 9
        assert plan.options == {"pause": 0.5}
        assert plan.alive == {3: (0, 2)}
        assert (plan.decode_threads, plan.buffer_memory) == (3, 10**9)
        assert (plan.memory_guard, plan.clip_timeout) == (0.5, 0.0)

    def test_options_are_the_specs_unless_said_otherwise(self) -> None:
        """Weights may have moved since the spec was frozen, so a plan may say another place; else the spec's holds."""
        spec = msgspec.structs.replace(mulaw_spec(), options={"model_path": "/a"})
        assert make_plan([], spec, submission=1).options == {"model_path": "/a"}
        assert make_plan([], spec, submission=1, options={}).options == {}

    @given(st.integers(1, 40), st.integers(1, 8))
    def test_elements_share_the_slots_out(self, count: int, processes: int) -> None:
        """Each slot belongs to exactly one process of one array task, and no array task has nothing to do."""
        plan = make_plan(balance(tasks_of([1] * count), count), mulaw_spec(), submission=1, processes=processes)
        shared = [plan.slots_of(element) for element in range(plan.elements)]
        assert [slot for slots in shared for slot in slots] == list(range(count))
        assert all(1 <= len(slots) <= processes for slots in shared)

    def test_which_tasks_are_known_to_be_gone(self) -> None:
        """Earlier tasks that were not alive when the plan was made; of its own and of later ones a plan knows nothing."""
        plan = make_plan([], mulaw_spec(), submission=5, alive={2: [0, 3], 4: []})
        gone = [str(TaskId(1, 0)), str(TaskId(2, 1)), str(TaskId(4, 0))]
        unknown = [
            str(TaskId(2, 0)),
            str(TaskId(2, 3)),
            str(TaskId(5, 0)),
            str(TaskId(6, 1)),
            "",
            "x",
            "3",
            "3/",
            "/3",
            "a/1",
            "-1/2",
        ]
        assert [plan.knows_gone(task) for task in gone] == [True] * 3
        assert [plan.knows_gone(task) for task in unknown] == [False] * len(unknown)
