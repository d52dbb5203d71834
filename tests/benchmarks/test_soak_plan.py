"""benchmarks/soak_plan.py: which faults come when."""

from __future__ import annotations

from benchmarks.soak_faults import FAULTS
from benchmarks.soak_plan import KINDS, Kind, plan_faults


def test_the_same_seed_gives_the_same_faults() -> None:
    """Another seed gives others."""
    assert plan_faults(1, 600, every_s=5) == plan_faults(1, 600, every_s=5)
    assert plan_faults(1, 600, every_s=5) != plan_faults(2, 600, every_s=5)


def test_each_kind_comes_before_any_comes_by_chance() -> None:
    """In another order for another seed, in time, and for as long as its kind lasts."""
    for seed in range(20):
        planned = plan_faults(seed, 1200, every_s=6)
        assert {fault.kind for fault in planned[: len(KINDS)]} == set(KINDS)
        assert [fault.at_s for fault in planned] == sorted(fault.at_s for fault in planned)
        assert 0 < planned[0].at_s <= planned[-1].at_s < 1200
        for fault in planned:
            assert KINDS[fault.kind].shortest_s <= fault.lasts_s <= KINDS[fault.kind].longest_s
    assert len({plan_faults(seed, 1200, every_s=6)[0].kind for seed in range(20)}) > 3


def test_how_often() -> None:
    """On average as often as asked, each kind by its weight, and only the kinds asked for."""
    kinds = {"often": Kind(9), "seldom": Kind(1)}
    planned = plan_faults(5, 100_000, every_s=10, kinds=kinds)
    assert 9_000 < len(planned) < 11_000
    assert 0.07 < sum(fault.kind == "seldom" for fault in planned) / len(planned) < 0.13


def test_every_kind_can_be_done() -> None:
    """What is planned has a function that does it, and no other."""
    assert set(FAULTS) == set(KINDS)
