"""tools/reporting/plots_progress.py: what the plots of progress say, also in words."""

from __future__ import annotations

import pytest
from support.made_facts import facts, task

from tools.reporting.model import Plot
from tools.reporting.plots_progress import durations_plot, progress_plot, rate_plot, states_plot
from tools.reporting.summary import forecast

HOUR = 3600.0


def test_progress() -> None:
    """The words beside the plot are its content, with the time when all will be done; its table has the values."""
    run = facts("committed", "committed", "not_started", "not_started", tasks=[task(-HOUR, 0, 2 * HOUR, end="running")])
    plot = progress_plot(run, forecast(run))
    assert "50 % of 4 tars committed, 2 hours of audio; all at " in plot.alt
    assert plot.table is not None
    assert [cell.text for cell in plot.table.rows[-1]][1:] == ["2", "2"]


def test_states_of_more_tars_than_cells() -> None:
    """A cell of several tars has the worst of their states: one tar in quarantine among thousands is seen."""
    run = facts(*["committed"] * 5000, "quarantined", *["committed"] * 4999)
    plot = states_plot(run)
    assert "Each cell stands for 7 tars" in plot.note
    assert plot.alt == "Tars by state: 9,999 committed, 1 in quarantine."
    assert plot.figure is not None
    (axes,) = plot.figure.axes
    boxes = {patch.get_label(): len(patch.get_path()) // 5 for patch in axes.patches}
    assert boxes["in quarantine: 1"] == 1


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        (progress_plot(facts("partial"), forecast(facts("partial"))), "No tar is committed yet."),
        (rate_plot(facts("committed")), "There are no reports of tasks"),
        (rate_plot(facts("committed", tasks=[task(0, 0)])), "No task has reported any audio yet."),
        (states_plot(facts()), "no tars"),
        (durations_plot(facts("partial")), "No tar is committed yet."),
    ],
)
def test_what_is_missing(plot: Plot, words: str) -> None:
    """Instead of a plot there is the reason."""
    assert plot.figure is None
    assert words in plot.missing


def test_durations() -> None:
    """Medians of tars and tasks; tasks at work have no duration yet."""
    tasks = [task(0, 600, 1.0), task(0, 9999, 1.0, end="running")]
    plot = durations_plot(facts("committed", "committed", tasks=tasks))
    assert plot.table is not None
    assert [row[0].text + row[1].text + row[3].text for row in plot.table.rows] == ["tars210 s", "tasks110 min"]


def test_times_of_a_brief_run_differ() -> None:
    """Rows that are seconds apart are told apart."""
    run = facts("committed", "committed", tasks=[task(-65, 0, 600)])
    for plot in (progress_plot(run, forecast(run)), rate_plot(run)):
        assert plot.table is not None
        said = [row[0].text for row in plot.table.rows]
        assert len(set(said)) == len(said)
