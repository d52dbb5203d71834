"""Plots of a run's progress: committed tars over time, the rate, the state of each tar, durations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audio_tokenizers.shared.wording import counted
from tools.reporting.facts import STATES, RunFacts
from tools.reporting.figures import PALETTE, boxes, legend, new_figure, time_axis, to_days
from tools.reporting.model import Plot, Table, text_cell, value_cell
from tools.reporting.summary import Forecast, audio_rate
from tools.reporting.units import big, clock, duration, number, percent

__all__ = ["durations_plot", "progress_plot", "rate_plot", "states_plot"]

POINTS = 240
CELLS = 1600
"""Cells of the map of tars; with more tars a cell stands for several."""
COLUMNS, FEWEST_COLUMNS = 80, 24
BRIEF_SECONDS = 1800.0
"""Tables of a time shorter than this have seconds: their dozen rows would otherwise look alike."""
STATE_COLOURS = {"committed": "teal", "partial": "sky", "not_started": "grid", "invalid": "orange", "quarantined": "red"}
STATE_NAMES = {
    "committed": "committed",
    "partial": "begun",
    "not_started": "not started",
    "invalid": "invalid",
    "quarantined": "in quarantine",
}
TICKS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 2 * 3600, 6 * 3600, 24 * 3600, 72 * 3600)
"""Of durations, in seconds."""
WORST = ("quarantined", "invalid", "not_started", "partial", "committed")
"""A cell of several tars has the first of these states that occurs in it."""

Floats = npt.NDArray[np.float64]


def progress_plot(facts: RunFacts, ahead: Forecast) -> Plot:
    """Committed tars, and their audio, over time; and when all will be done."""
    name, title = "progress", "Progress over time"
    tars = facts.tars
    known = np.isfinite(tars.committed_at)
    if not known.any():
        return Plot(name, title, missing="No tar is committed yet.")
    order = np.argsort(tars.committed_at[known], kind="stable")
    at = tars.committed_at[known][order]
    audio = np.cumsum(tars.audio_seconds[known][order]) / 3600
    done = np.arange(1, len(at) + 1)
    start = min([float(at[0]), *(task.started for task in facts.tasks if task.started > 0)])
    at, audio, done = (np.concatenate([[first], values]) for first, values in ((start, at), (0, audio), (0, done)))
    kept = np.unique(np.linspace(0, len(at) - 1, POINTS).round().astype(int))
    at, audio, done = at[kept], audio[kept], done[kept]
    share = 100 * done / len(tars)
    with new_figure(3.0) as (figure, (axes,)):
        axes.fill_between(to_days(at), share, step="post", color=PALETTE["pale"], linewidth=0)
        axes.step(to_days(at), share, where="post", color=PALETTE["blue"], linewidth=1.8, label="tars committed")
        end = None
        if ahead.hours_left and ahead.hours_left > 0:
            end = facts.made_at + 3600 * ahead.hours_left
            axes.plot(
                to_days(np.array([at[-1], facts.made_at, end])), [share[-1], share[-1], 100.0],
                color=PALETTE["orange"], linewidth=1.4, linestyle=(0, (3, 2)), label="at the present rate",
            )  # fmt: skip
        axes.set_ylim(0, 104)
        axes.set_ylabel("% of tars")
        axes.margins(x=0.01)
        time_axis(axes)
        legend(axes)
    words = f"{percent(done[-1] / len(tars))} of {counted(len(tars), 'tar')} committed, {number(audio[-1])} hours of audio"
    then = f"; all at {clock(end)} at the present rate" if end is not None else ""
    rows = [
        [
            value_cell(at[k], clock(at[k], exact=at[-1] - at[0] < BRIEF_SECONDS)),
            value_cell(done[k], f"{done[k]:,}"),
            value_cell(audio[k]),
        ]
        for k in np.unique(np.linspace(0, len(at) - 1, 12).round().astype(int))
    ]
    table = Table("Committed over time", ("by", "tars", "audio-hours"), rows, frozenset({0, 1, 2}))
    note = "By the files' times of change: a folder that was copied without them shows the time of the copy."
    return Plot(name, title, f"{title}: {words}{then}.", figure, note=note, table=table)


def rate_plot(facts: RunFacts) -> Plot:
    """Audio-hours per hour over time."""
    name, title = "rate", "Audio-hours per hour"
    edges, rate = audio_rate(facts.tasks, 120)
    if not rate.any():
        missing = "No task has reported any audio yet." if facts.tasks else "There are no reports of tasks."
        return Plot(
            name, title, missing=f"{missing} Tars that are tokenized by hand have none." if not facts.tasks else missing
        )
    with new_figure(2.4) as (figure, (axes,)):
        axes.stairs(rate, to_days(edges), fill=True, color=PALETTE["pale"])
        axes.stairs(rate, to_days(edges), color=PALETTE["blue"], linewidth=1.5, baseline=None)
        begun = [each.intended_at for each in facts.submissions if each.intended_at and each.elements]
        low, high = edges[0], edges[-1]
        for moment in begun[:40]:
            if low < moment < high:
                axes.axvline(to_days(moment), color=PALETTE["muted"], linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("audio-h per h")
        axes.yaxis.set_major_formatter(lambda value, _place: big(value))
        axes.margins(x=0.01)
        time_axis(axes)
    peak, mean = float(rate.max()), float(np.average(rate, weights=np.diff(edges)))
    alt = f"{title}: {number(mean)} on average, {number(peak)} at most."
    note = "Each task's audio is spread evenly over the task. Dotted lines: submissions after the first."
    rows = [
        [
            value_cell(edges[k], clock(edges[k], exact=edges[-1] - edges[0] < BRIEF_SECONDS)),
            value_cell(float(rate[k : k + 10].mean())),
        ]
        for k in range(0, len(rate), 10)
    ]
    return Plot(name, title, alt, figure, note=note, table=Table(title, ("from", "audio-h per h"), rows, frozenset({0, 1})))


def states_plot(facts: RunFacts) -> Plot:
    """A map of all tars, in list order, by state."""
    name, title = "tars", "Tars by state"
    total = len(facts.tars)
    if not total:
        return Plot(name, title, missing="The run has no tars.")
    per_cell = -(-total // CELLS)
    rank = np.array([WORST.index(state) for state in STATES])[facts.tars.state]
    firsts = np.arange(0, total, per_cell)
    cells = np.minimum.reduceat(rank, firsts)
    columns = min(COLUMNS, max(len(cells), FEWEST_COLUMNS))
    rows = -(-len(cells) // columns)
    present = {state: facts.tars.count(state) for state in STATES}
    with new_figure(0.55 + 0.1 * rows if rows > 4 else 0.55 + 0.16 * rows) as (figure, (axes,)):
        for place, state in reversed(list(enumerate(WORST))):
            found = np.flatnonzero(cells == place)
            label = f"{STATE_NAMES[state]}: {present[state]:,}" if present[state] else ""
            spots = [(cell % columns + 0.06, -(cell // columns) - 0.94, 0.88, 0.88) for cell in found]
            boxes(axes, spots, STATE_COLOURS[state], label)
            if label and not spots:
                axes.plot([], [], "s", color=PALETTE[STATE_COLOURS[state]], label=label)
        axes.set_xlim(0, columns)
        axes.set_ylim(-rows, 0)
        axes.axis("off")
        legend(axes, 5)
    words = ", ".join(f"{count:,} {STATE_NAMES[state]}" for state, count in present.items() if count)
    several = (
        f"Each cell stands for {per_cell:,} tars, in list order, and has the worst state among them." if per_cell > 1 else ""
    )
    table = Table(
        title,
        ("state", "tars", "share"),
        [
            [text_cell(STATE_NAMES[s]), value_cell(n, f"{n:,}"), value_cell(n / total, percent(n / total))]
            for s, n in present.items()
        ],
        frozenset({1, 2}),
    )
    return Plot(name, title, f"{title}: {words}.", figure, note=several or "One cell per tar, in list order.", table=table)


def durations_plot(facts: RunFacts) -> Plot:
    """How long tars and tasks took."""
    name, title = "durations", "How long tars and tasks took"
    walls = facts.tars.wall_seconds[facts.tars.is_committed & (facts.tars.wall_seconds > 0)]
    tasks = np.array([task.seconds for task in facts.tasks if task.end != "running" and task.seconds > 0])
    if not len(walls):
        return Plot(name, title, missing="No tar is committed yet.")
    shown = [("tars", walls, "teal")] + ([("tasks", tasks, "blue")] if len(tasks) else [])
    with new_figure(1.5 + 1.2 * (len(shown) - 1), len(shown)) as (figure, panels):
        low, high = (float(f([f(values) for _, values, _ in shown])) for f in (min, max))
        bins = np.geomspace(max(low, 1e-3) * 0.99, max(high, 1e-3) * 1.01, 49)
        for axes, (what, values, colour) in zip(panels, shown, strict=True):
            counts, _ = np.histogram(values, bins)
            boxes(axes, [(x, 0, w * 0.9, n) for x, w, n in zip(bins, np.diff(bins), counts, strict=False) if n], colour)
            axes.set_xscale("log")
            axes.set_xlim(bins[0], bins[-1])
            axes.set_ylim(0, max(1.0, counts.max() * 1.08))
            axes.set_ylabel(what)
            ticks = [tick for tick in TICKS if bins[0] <= tick <= bins[-1]]
            axes.set_xticks(ticks, [duration(tick) for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.yaxis.set_major_formatter(lambda value, _place: big(value))
            axes.locator_params(axis="y", integer=True, nbins=4)
    quantiles = (0.05, 0.5, 0.95, 1.0)
    rows = [
        [text_cell(what), value_cell(len(values), f"{len(values):,}")]
        + [value_cell(float(np.quantile(values, q)), duration(float(np.quantile(values, q)))) for q in quantiles]
        for what, values, _ in shown
    ]
    table = Table("Durations", ("", "number", "5 %", "median", "95 %", "longest"), rows, frozenset(range(1, 6)))
    alt = f"{title}: the median tar {duration(float(np.median(walls)))}, the longest {duration(float(walls.max()))}."
    return Plot(name, title, alt, figure, note="Time axes are logarithmic.", table=table)
