"""tools/reporting/plots_tokens.py: the plots and the table of each key."""

from __future__ import annotations

import numpy as np

from audio_tokenizers.base import Field
from jobs.sequence_counter import SequenceCounter
from jobs.token_statistics import SequenceStatistics, TokenStatistics
from tools.checking.token_report import report_tokens
from tools.checking.token_totals import TokenTotals
from tools.reporting.plots_tokens import codebooks_table, codes_plot, entropy_plot

KEYS = ("a_b", "a-b", "a b", "\u65e5", "\u672c")


def test_each_key_has_plots_of_its_own() -> None:
    """Keys that differ in signs that no file name should have do not replace each other's plots."""
    totals = TokenTotals()
    sequences = {}
    for key in KEYS:
        counter = SequenceCounter(Field(name=key, form="codes", width=1, codebook_size=4), 8000)
        counter.add(np.array([[0, 1, 2]]), 0, "a.wav")
        sequences[key] = SequenceStatistics.of(counter, 8000)
    totals.add("a", TokenStatistics(clips=1, audio_seconds=1.0, sequences=sequences))
    report = report_tokens(totals)
    plots = [
        plot
        for found in report.sequences
        for plot in (entropy_plot(found), codes_plot(found.key, totals.sequences[found.key].counts))
    ]
    assert len({plot.name for plot in plots}) == 2 * len(KEYS)
    assert all(plot.name.replace("-", "").replace("_", "").isalnum() and plot.name.isascii() for plot in plots)
    assert codebooks_table(report.sequences[0]).rows[0][6].text == "1 token"
