"""tools/reporting/plots_tasks.py: tasks over time, nodes and devices, however many there are."""

from __future__ import annotations

import random
import warnings

import pytest
from support.made_facts import facts, task

from jobs.progress import DeviceSeconds
from tools.reporting.figures import inline_svg
from tools.reporting.plots_tasks import MOST_BARS, MOST_LANES, attempts_plot, device_plot, nodes_plot
from tools.reporting.summary import speeds


def test_few_tasks_have_a_bar_each() -> None:
    """Tasks of one node that overlap are below one another; ends, deaths and exclusions are in the words, too."""
    tasks = [
        task(0, 100),
        task(50, 150, end="stopped"),
        task(100, 200, end="died", deaths=(1.0,)),
        task(0, 10, node="n2", end="running"),
    ]
    plot = attempts_plot(facts("partial", tasks=tasks, exclusions=[(1_000_050.0, "n2")]))
    assert "4 tasks on 2 nodes: 1 finished, 1 running, 1 stopped" in plot.alt
    assert "1 death of workers; n2 excluded" in plot.alt
    assert plot.figure is not None
    (axes,) = plot.figure.axes
    assert sum(len(patch.get_path()) // 5 for patch in axes.patches) == 4
    assert axes.get_ylim()[0] < -3  # two rows of n1, one of n2


def test_many_tasks_become_a_map() -> None:
    """However many tasks and nodes there are, the SVG stays below a megabyte; a row stands for several nodes."""
    source = random.Random(1)
    tasks = [
        task(
            start,
            start + source.uniform(1, 900),
            node=f"n{source.randrange(200):03}",
            deaths=(0.5,) if source.random() < 0.01 else (),
        )
        for start in (source.uniform(0, 1e5) for _ in range(10_000))
    ]
    plot = attempts_plot(facts("partial", tasks=tasks))
    assert plot.figure is not None
    assert f"Each row stands for {-(-200 // MOST_LANES)} nodes" in plot.note
    assert len(inline_svg(plot.figure, plot.name, plot.alt)) < 1_000_000


@pytest.mark.slow
def test_nodes() -> None:
    """Slow nodes stand out; of many, the slowest and the fastest are shown."""
    tasks = [task(0, 3600, 3600.0 * (10 if k else 1), node=f"n{k:02}") for k in range(60)]
    plot = nodes_plot(speeds(tasks, lambda each: each.node))
    assert "slowest n00 with 1, fastest" in plot.alt
    assert plot.note == "The 12 slowest and the 12 fastest of 60 nodes."
    assert nodes_plot([]).missing


def test_devices() -> None:
    """Shares of all devices, then the nodes that waited most; nothing before any time is known."""
    tasks = [task(0, 9, device=DeviceSeconds(9, 1, 0)), task(0, 9, node="n2", device=DeviceSeconds(1, 8, 1))]
    run = facts("committed", tasks=tasks)
    plot = device_plot(run, speeds(tasks, lambda each: each.node))
    assert "busy 50 %, waiting for audio 45 %, waiting for the writer 5 %" in plot.alt
    assert plot.table is not None
    assert [row[0].text for row in plot.table.rows] == ["all", "n2", "n1"]
    assert device_plot(facts("committed"), []).missing == "No device times are reported yet."


def test_long_names_of_nodes() -> None:
    """They leave the plots their room: the axes do not collapse, which matplotlib warns of."""
    tasks = [task(0, 100, 600, node=f"{number}" + "n" * 300, device=DeviceSeconds(6, 3, 1)) for number in range(3)]
    run, nodes = facts("partial", tasks=tasks), speeds(tasks, lambda each: each.node)
    crowd = facts("partial", tasks=[task(k, k + 900, node=f"{k % 9}" + "n" * 300) for k in range(MOST_BARS + 1)])
    for plot in (attempts_plot(run), attempts_plot(crowd), nodes_plot(nodes), device_plot(run, nodes)):
        assert plot.figure is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            svg = inline_svg(plot.figure, plot.name, "")
        assert "nnn…" in svg
        assert "n" * 40 not in svg
