"""Plots of a run's tasks: what devices waited for, speed by node, and attempts over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from audio_tokenizers.shared.wording import counted
from tools.reporting.facts import END_WORDS, End, RunFacts, Task
from tools.reporting.figures import PALETTE, boxes, legend, new_figure, time_axis, to_days
from tools.reporting.model import Plot, Table, text_cell, value_cell
from tools.reporting.summary import Speed
from tools.reporting.units import number, percent, shortened

if TYPE_CHECKING:  # matplotlib is an extra
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attempts_plot", "device_plot", "nodes_plot"]

BARS = 24
MOST_BARS, MOST_LANES = 1500, 64
TIME_BINS = 200
LEVELS = ("pale", "sky", "blue")
"""Colours of few, some and many tasks at once."""
END_COLOURS: dict[End, str] = {"finished": "sky", "running": "teal", "stopped": "orange", "died": "red", "silent": "grey"}
LABEL_CHARACTERS = 32
"""Of a node's name beside a plot, which a longer one would leave no room; tables have it whole."""
PARTS = (("busy", "busy", "teal"), ("audio", "waiting for audio", "orange"), ("writer", "waiting for the writer", "violet"))


def _label(node: str) -> str:
    return shortened(node, LABEL_CHARACTERS)


def device_plot(facts: RunFacts, nodes: Sequence[Speed]) -> Plot:
    """What devices spent their time on: all of them, and those of the nodes that waited most."""
    name, title = "device", "What the devices did"
    spent = facts.device_seconds
    if spent.total <= 0:
        return Plot(name, title, missing="No device times are reported yet.")
    worst = sorted(
        (node for node in nodes if node.audio_wait is not None), key=lambda node: node.audio_wait or 0.0, reverse=True
    )
    shown = [("all", spent), *((node.name, node.device) for node in worst[:8] if len(worst) > 1)]
    with new_figure(0.75 + 0.26 * len(shown)) as (figure, (axes,)):
        for part, words, colour in PARTS:
            spots = []
            for row, (_, device) in enumerate(shown):
                before = sum(getattr(device, other) for other, _, _ in PARTS[: [p for p, _, _ in PARTS].index(part)])
                spots.append((100 * before / device.total, -row - 0.38, 100 * getattr(device, part) / device.total, 0.76))
            boxes(axes, spots, colour, words)
        axes.set_yticks([-row for row in range(len(shown))], [_label(each) for each, _ in shown])
        axes.set_xlim(0, 100)
        axes.set_ylim(-len(shown) + 0.45, 0.55)
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:.0f} %")
        axes.grid(visible=False, axis="y")
        legend(axes)
    shares = {part: getattr(spent, part) / spent.total for part, _, _ in PARTS}
    alt = f"{title}: " + ", ".join(f"{words} {percent(shares[part])}" for part, words, _ in PARTS) + " of their time."
    note = (
        f"Below: {'the' if len(worst) <= 8 else 'of'} {counted(len(worst), 'node')}, those that waited most for audio first."
        if len(worst) > 1
        else ""
    )
    rows = [
        [
            text_cell(label),
            *(value_cell(getattr(d, part) / d.total, percent(getattr(d, part) / d.total)) for part, _, _ in PARTS),
        ]
        for label, d in shown
    ]
    table = Table(title, ("node", *(words for _, words, _ in PARTS)), rows, frozenset({1, 2, 3}))
    return Plot(name, title, alt, figure, note=note, table=table)


def nodes_plot(nodes: Sequence[Speed]) -> Plot:
    """Audio-hours per worker-hour, by node."""
    name, title = "nodes", "Speed by node"
    found = sorted((node for node in nodes if node.worker_hours > 0), key=lambda node: node.per_worker_hour)
    if not found:
        return Plot(name, title, missing="There are no reports of tasks.")
    shown = found if len(found) <= BARS else [*found[: BARS // 2], *found[-BARS // 2 :]]
    median = float(np.median([node.per_worker_hour for node in found]))
    with new_figure(0.85 + 0.19 * len(shown)) as (figure, (axes,)):
        values = [node.per_worker_hour for node in shown]
        slow = [k for k, value in enumerate(values) if value < 0.8 * median]
        boxes(axes, [(0, -k - 0.38, values[k], 0.76) for k in range(len(shown)) if k not in slow], "blue", "nodes")
        boxes(axes, [(0, -k - 0.38, values[k], 0.76) for k in slow], "orange", "more than 20 % below the median")
        axes.axvline(median, color=PALETTE["ink"], linewidth=1.0, linestyle=(0, (4, 3)), label="median")
        axes.set_yticks([-k for k in range(len(shown))], [_label(node.name) for node in shown])
        axes.set_ylim(-len(shown) + 0.4, 0.6)
        axes.set_xlim(0, max(values) * 1.04 or 1)
        axes.set_xlabel("audio-hours per worker-hour")
        axes.grid(visible=False, axis="y")
        legend(axes)
    alt = (
        f"{title}: {counted(len(found), 'node')}, median {number(median)} audio-hours per worker-hour, slowest "
        f"{found[0].name} with {number(found[0].per_worker_hour)}, fastest {found[-1].name} with "
        f"{number(found[-1].per_worker_hour)}."
    )
    note = f"The {BARS // 2} slowest and the {BARS // 2} fastest of {len(found):,} nodes." if len(found) > BARS else ""
    return Plot(name, title, alt, figure, note=note)


def attempts_plot(facts: RunFacts) -> Plot:
    """Tasks over time, by node: how each ended, deaths, and when nodes were excluded."""
    name, title = "attempts", "Tasks over time"
    tasks = [task for task in facts.tasks if task.started > 0]
    if not tasks:
        return Plot(name, title, missing="There are no reports of tasks.")
    nodes = sorted({task.node for task in tasks})
    lanes = _lanes(tasks, nodes) if len(tasks) <= MOST_BARS else None
    if lanes is None or sum(lanes.count.values()) > MOST_LANES:
        figure, note = _crowd(facts, tasks, nodes)
    else:
        figure, note = _bars(facts, tasks, nodes, lanes)
    ends = {end: sum(task.end == end for task in tasks) for end in END_WORDS}
    deaths = sum(len(task.deaths) for task in tasks)
    excluded = f"; {', '.join(node for _, node in facts.exclusions)} excluded" if facts.exclusions else ""
    words = ", ".join(f"{count:,} {END_WORDS[end]}" for end, count in ends.items() if count)
    where = f"{counted(len(tasks), 'task')} on {counted(len(nodes), 'node')}"
    alt = f"{title}: {where}: {words}; {counted(deaths, 'death')} of workers{excluded}."
    rows = [[text_cell(END_WORDS[end]), value_cell(n, f"{n:,}")] for end, n in ends.items() if n]
    table = Table(
        "How tasks ended",
        ("", "tasks"),
        [*rows, [text_cell("deaths of workers within tasks"), value_cell(deaths, f"{deaths:,}")]],
        frozenset({1}),
    )
    return Plot(name, title, alt, figure, note=note, table=table)


class _Lanes:
    """Which row of its node each task has, so that no two tasks overlap."""

    def __init__(self) -> None:
        self.row: dict[int, int] = {}
        self.count: dict[str, int] = {}


def _lanes(tasks: Sequence[Task], nodes: Sequence[str]) -> _Lanes:
    found = _Lanes()
    for node in nodes:
        free: list[float] = []
        for place in sorted((k for k, task in enumerate(tasks) if task.node == node), key=lambda k: tasks[k].started):
            task = tasks[place]
            row = next((k for k, until in enumerate(free) if until <= task.started), len(free))
            free[row : row + 1] = [task.ended]
            found.row[place] = row
        found.count[node] = len(free)
    return found


def _bars(facts: RunFacts, tasks: Sequence[Task], nodes: Sequence[str], lanes: _Lanes) -> tuple[Figure, str]:
    from itertools import accumulate

    first = dict(zip(nodes, accumulate([0, *(lanes.count[node] for node in nodes)]), strict=False))
    height = sum(lanes.count.values())
    with new_figure(0.9 + max(0.14 * height, 0.3)) as (figure, (axes,)):
        for end in END_WORDS:
            spots = [
                (to_days(task.started), -first[task.node] - lanes.row[k] - 0.86, to_days(task.seconds), 0.72)
                for k, task in enumerate(tasks)
                if task.end == end
            ]
            boxes(axes, spots, END_COLOURS[end], END_WORDS[end].partition(":")[0])
        deaths = [
            (task.started + share * task.seconds, -first[task.node] - lanes.row[k] - 0.5)
            for k, task in enumerate(tasks)
            for share in task.deaths
        ]
        if deaths:
            axes.plot(
                [to_days(x) for x, _ in deaths],
                [y for _, y in deaths],
                "x",
                color=PALETTE["red"],
                markersize=5,
                label="worker died",
            )
        for node in nodes[1:]:
            axes.axhline(-first[node], color=PALETTE["grid"], linewidth=0.8)
        _mark_exclusions(facts, axes, {node: (-first[node] - lanes.count[node], -first[node]) for node in nodes})
        axes.set_yticks([-first[node] - lanes.count[node] / 2 for node in nodes], list(map(_label, nodes)))
        axes.set_ylim(-height - 0.1, 0.1)
        _finish(axes, tasks, facts.exclusions)
    return figure, "One bar per task, in rows by node. Where in a task a worker died is estimated from its other tries."


def _crowd(facts: RunFacts, tasks: Sequence[Task], nodes: Sequence[str]) -> tuple[Figure, str]:
    """How many tasks run at once, for each node, or several, and stretch of time."""
    per_row = -(-len(nodes) // MOST_LANES)
    rows = -(-len(nodes) // per_row)
    row_of = {node: k // per_row for k, node in enumerate(nodes)}
    start, end = min(task.started for task in tasks), max(task.ended for task in tasks)
    width = max(end - start, 1.0) / TIME_BINS
    running = np.zeros((rows, TIME_BINS + 1))  # tasks at once, on average
    deaths = np.zeros((rows, TIME_BINS), bool)
    stops = np.zeros((rows, TIME_BINS), bool)
    change = np.zeros((rows, TIME_BINS + 1))
    for task in tasks:
        row = row_of[task.node]
        begin, until = (task.started - start) / width, (task.ended - start) / width
        first, last = int(begin), min(int(until), TIME_BINS)
        running[row, first] += min(first + 1, until) - begin
        if last > first:
            running[row, last] += until - last
            change[row, first + 1] += 1
            change[row, last] -= 1
        for share in task.deaths:
            deaths[row, min(int(begin + share * (until - begin)), TIME_BINS - 1)] = True
        stops[row, min(last, TIME_BINS - 1)] |= task.end == "stopped"
    running = (running + change.cumsum(axis=1))[:, :-1]
    most = running.max()
    with new_figure(0.9 + 0.1 * max(rows, 4)) as (figure, (axes,)):
        for level, colour in enumerate(LEVELS):
            low, high = most * level / len(LEVELS), most * (level + 1) / len(LEVELS)
            inside = (running > low + 1e-9) & (running <= high + 1e-9)
            words = f"up to {number(high, 2)} tasks at once"
            boxes(
                axes,
                [(to_days(start + k * width), -row - 0.95, to_days(n * width), 0.9) for row, k, n in _runs(inside)],
                colour,
                words,
            )
        for found, colour, words in ((stops, "orange", "stopped"), (deaths, "red", "worker died")):
            boxes(
                axes,
                [
                    (to_days(start + (k + 0.1) * width), -row - 0.8, to_days(0.8 * width), 0.6)
                    for row, k in np.argwhere(found)
                ],
                colour,
                words,
            )
        _mark_exclusions(facts, axes, {node: (-row_of[node] - 1, -row_of[node]) for node in nodes})
        labels = [_label(nodes[row * per_row]) for row in range(rows)]
        step = -(-rows // 32)
        axes.set_yticks([-row - 0.5 for row in range(0, rows, step)], labels[::step])
        axes.set_ylim(-rows - 0.1, 0.1)
        _finish(axes, tasks, facts.exclusions)
    several = f"Each row stands for {per_row} nodes. " if per_row > 1 else ""
    return figure, f"{several}Where in a task a worker died is estimated from its other tries."


def _runs(inside: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, first column, columns) of each unbroken stretch of True."""
    padded = np.pad(inside.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    return [
        (int(row), int(begin), int(end - begin))
        for (row, begin), (_, end) in zip(np.argwhere(steps == 1), np.argwhere(steps == -1), strict=True)
    ]


def _mark_exclusions(facts: RunFacts, axes: Axes, rows: dict[str, tuple[float, float]]) -> None:
    marks = [(at, *rows[node]) for at, node in facts.exclusions if node in rows]
    if marks:
        at, low, high = zip(*marks, strict=True)
        axes.vlines([to_days(x) for x in at], low, high, color=PALETTE["ink"], linewidth=2.2, label="node excluded")


def _finish(axes: Axes, tasks: Sequence[Task], marks: Sequence[tuple[float, str]]) -> None:
    moments = [*(task.started for task in tasks), *(task.ended for task in tasks), *(at for at, _ in marks)]
    start, end = min(moments), max(moments)
    margin = max(0.01 * (end - start), 1.0)
    axes.set_xlim(to_days(start - margin), to_days(end + margin))
    axes.grid(visible=False, axis="y")
    time_axis(axes)
    legend(axes, 4)
