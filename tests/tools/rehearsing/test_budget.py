"""tools/rehearsing/budget.py: the plan for a whole list."""

from __future__ import annotations

import pytest

from tools.rehearsing.budget import Budget, judge_budget, judge_room, make_budget
from tools.rehearsing.forecast import Forecast, Range

RATES = Forecast(Range(1e-6, 0.8e-6, 1.3e-6), Range(0.1, 0.09, 0.12), Range(3.6e-4, 3.6e-4, 3.6e-4))
"""A megabyte takes a second, gives 100 kB, and holds 6 minutes."""
GB = 10**9


def plan(sizes: list[int], *, processes: int = 1, workers: int = 10, per_gpu: int = 1, startup_s: float = 36.0) -> Budget:
    found = make_budget(
        sizes,
        RATES,
        startup_s,
        slots=lambda rate: sizes if abs(rate - 1e6) < 1 else [],
        processes=processes,
        workers=workers,
        per_gpu=per_gpu,
    )
    assert found is not None
    return found


def test_hours_and_tasks() -> None:
    """Worker-hours are bytes by the rate, and a start for each process that is planned."""
    found = plan([3 * GB, GB, GB, GB], processes=2)
    assert found.worker_hours.value == pytest.approx((6000 + 4 * 36) / 3600)
    assert found.worker_hours.high == pytest.approx((1.3 * 6000 + 4 * 36) / 3600)
    assert (found.tasks, found.workers, round(found.audio_hours.value)) == (2, 4, 600)
    assert found.longest_hours == pytest.approx((3000 + 36) / 3600)
    assert found.output_bytes.value == pytest.approx(0.6 * GB)


def test_unknown_sizes() -> None:
    """They are taken for average, and said; where all are unknown there is no plan."""
    found = plan([GB, 0, 3 * GB])
    assert (found.bytes, found.unknown) == (6 * GB, 1)
    said = {one.check: one for one in judge_budget(found, [], time_limit_min=60, at_once="here")}
    assert said["sizes"].found == "1 tar of unknown size, taken for average"
    none = make_budget([0, 0], RATES, 1.0, slots=lambda _rate: [], processes=1, workers=1, per_gpu=0)
    assert none is None
    assert judge_budget(none, [], time_limit_min=60, at_once="")[0].verdict == "warning"


def test_in_words() -> None:
    """Hours, cost, array tasks and the interval, each with its range."""
    said = {one.check: one for one in judge_budget(plan([4000 * GB] * 2, workers=1), [], time_limit_min=120, at_once="here")}
    assert said["plan"].found == (
        "2 tars, 8.0 TB: 800,000 (800,000 to 800,000) audio-h in 2222:14:32 (1777:47:52 to 2888:54:32) with 1 worker at "
        "once (here)"
    )
    assert said["cost"].found == "2,222 (1,778 to 2,889) GPU-hours, 2.78 per 1,000 audio-h"
    assert said["array tasks"].found == ("2 array tasks; the longest takes 1,111 of 2 hours, and goes on in the next round")
    assert said["interval"].found == "bootstrap over tars and excerpts, 90%"
    unsure = judge_budget(plan([GB]), ["it is small"], time_limit_min=120, at_once="here")[-1]
    assert (unsure.verdict, unsure.found) == ("warning", "bootstrap over tars and excerpts, 90%: it is small")


def test_two_workers_share_a_gpu() -> None:
    """GPU-hours are half of the worker-hours; without GPUs they are not called so."""
    shared, cpus = plan([GB] * 4, per_gpu=2, startup_s=0), plan([GB] * 4, per_gpu=0, startup_s=0)
    words = [judge_budget(one, [], time_limit_min=60, at_once="")[1].found for one in (shared, cpus)]
    assert words[0].startswith("0.556 (0.444 to 0.722) GPU-hours")
    assert words[1].startswith("1.11 (0.889 to 1.44) worker-hours")


def test_room() -> None:
    """A no if not even the low end fits."""
    budget = plan([100 * GB])  # 9 to 12 GB of tokens
    assert [judge_room(budget, free * GB).verdict for free in (9, 11, 13)] == ["fault", "warning", "ok"]
