"""tools/reporting/summary.py: rates, remaining time and cost, from tasks and tars."""

from __future__ import annotations

import numpy as np
import pytest
from support.made_facts import facts, task

from hpc.launch import Launch
from jobs.progress import DeviceSeconds
from tools.reporting.facts import SubmissionFacts
from tools.reporting.summary import audio_rate, cost_of, forecast, gpu_hours, speeds, union_seconds

HOUR = 3600.0


def submission(processes: int) -> SubmissionFacts:
    return SubmissionFacts(1, "7", "ended", "", 1, processes, 1, 0.0, {}, 0)


def test_union_seconds() -> None:
    """Time that several spans share counts once, gaps do not."""
    assert union_seconds([(0, 10), (5, 20), (30, 40), (32, 35)]) == 30
    assert union_seconds([]) == 0


def test_speed_by_node() -> None:
    """A node's rate is that of all of its workers together; a worker's is that of one."""
    tasks = [
        task(0, HOUR, 100 * HOUR, device=DeviceSeconds(6, 3, 1)),
        task(0, HOUR, 60 * HOUR, gpu="1", deaths=(0.5,)),
        task(0, 2 * HOUR, 20 * HOUR, node="n2"),
    ]
    one, two = speeds(tasks, lambda each: each.node)
    assert (one.name, one.tasks, one.hours, one.worker_hours, one.deaths) == ("n1", 2, 1.0, 2.0, 1)
    assert (one.per_hour, one.per_worker_hour, one.audio_wait) == (160.0, 80.0, 0.3)
    assert (two.per_hour, two.per_worker_hour, two.audio_wait) == (10.0, 10.0, None)


def test_rate_over_time_keeps_all_audio() -> None:
    """The area below the curve is the audio of all tasks, wherever they begin and end."""
    random = np.random.default_rng(1)
    starts, lengths = random.uniform(0, 9 * HOUR, 200), random.uniform(1, HOUR, 200)
    tasks = [task(start, start + length, 900 * length) for start, length in zip(starts, lengths, strict=True)]
    edges, rate = audio_rate(tasks, 50)
    assert float((rate * np.diff(edges)).sum()) == pytest.approx(900 * lengths.sum(), rel=1e-6)
    edges, rate = audio_rate([task(0, HOUR, 100 * HOUR), task(3 * HOUR, 4 * HOUR, 10 * HOUR)], 4)
    assert rate == pytest.approx([100, 0, 0, 10], abs=1e-3)
    assert audio_rate([], 4)[1].size == 0


class TestForecast:
    def test_what_is_left_at_the_rate_of_running_tasks(self) -> None:
        """Audio per byte so far gives what is left, what runs now the rate; a quarantined tar is not waited for."""
        running = [task(-HOUR, 0, 2 * HOUR, end="running"), task(-HOUR, 0, 9 * HOUR)]
        ahead = forecast(facts("committed", "committed", "not_started", "not_started", "quarantined", tasks=running))
        assert (ahead.rate, ahead.audio_hours_left, ahead.hours_left) == (2.0, 2.0, 1.0)

    def test_nothing_runs(self) -> None:
        """Then nobody knows when it will be done."""
        ahead = forecast(facts("committed", "not_started"))
        assert (ahead.rate, ahead.audio_hours_left, ahead.hours_left) == (0.0, 1.0, None)

    def test_all_done_and_nothing_known(self) -> None:
        """A finished run has no time left; one without any committed tar no forecast."""
        assert forecast(facts("committed")).hours_left == 0.0
        begun = forecast(facts("not_started", tasks=[task(-60, 0, 600, end="running")]))
        assert (begun.rate, begun.audio_hours_left, begun.hours_left) == (10.0, None, None)
        assert forecast(facts()).hours_left == 0.0

    def test_workers_that_have_only_begun(self) -> None:
        """A rate of next to nothing gives no time left: it has no date that could be shown."""
        begun = forecast(facts("committed", "not_started", tasks=[task(-600, 0, 1e-6, end="running")]))
        assert begun.rate > 0
        assert (begun.audio_hours_left, begun.hours_left) == (1.0, None)

    def test_tars_that_are_not_there(self) -> None:
        """Tars of unknown size are taken to be like the others, not to be empty."""
        run = facts("committed", "committed", "not_started")
        run.tars.bytes[2] = 0
        assert forecast(run).audio_hours_left == 1.0


class TestCost:
    def test_an_array_task_holds_its_gpus_to_its_end(self) -> None:
        """Two workers that share a GPU cost one, four GPUs cost four until the last of their workers ends."""
        launch = Launch(cluster="slurm", device="cuda", gpus_per_node=2, procs_per_gpu=2)
        tasks = [task(0, HOUR, slot=slot) for slot in range(3)] + [task(0, 2 * HOUR, slot=3)]
        assert gpu_hours(tasks, [submission(4)], launch) == 4.0

    def test_without_gpus(self) -> None:
        """Workers' hours are counted instead."""
        assert gpu_hours([task(0, HOUR), task(0, HOUR, slot=1)], [submission(2)], None) == 2.0

    def test_price(self) -> None:
        """Per 1,000 hours of audio that is kept; work done twice is named, and what is left costs the same."""
        cost = cost_of(facts("committed", "committed", tasks=[task(0, HOUR, 5 * HOUR)]), left_hours=10.0)
        assert (cost.unit, cost.hours, cost.per_thousand) == ("worker-hours", 1.0, 500.0)
        assert (cost.repeated_hours, cost.hours_left) == (3.0, 5.0)

    def test_a_run_by_hand(self) -> None:
        """Without reports of tasks the manifests' times count."""
        assert cost_of(facts("committed", "committed"), None).hours == pytest.approx(20 / 3600)
