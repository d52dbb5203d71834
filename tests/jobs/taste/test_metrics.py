"""jobs/taste/metrics.py: sums that give the same figures however the clips were cut into batches."""

from __future__ import annotations

import math

import torch

from jobs.taste.metrics import COLUMNS, Totals, csv_text
from jobs.taste.model import Scores


def scores(targets: list[int], predicted: list[int], losses: list[float], in_top: int = 0) -> Scores:
    return Scores(torch.tensor(losses), len(targets), torch.tensor(targets), torch.tensor(predicted), in_top)


def test_figures() -> None:
    """Loss per position, share of right ones, share within five, F1 over units that occur, and perplexity."""
    totals = Totals(3)
    totals.add(scores([0, 1, 3], [0, 0, 3], [1.0, 2.0], in_top=3))
    totals.add(scores([0], [2], [1.0]))
    found = totals.measures()
    assert found["loss"] == 1.0
    assert found["accuracy"] == 0.5
    assert found["top5"] == 0.75
    # 0: one of two predicted, one of two found; 1: never; 2: predicted only; 3, the end mark: always.
    assert math.isclose(found["f1"], (2 / 4 + 0 + 0 + 1) / 4)
    assert math.isclose(found["perplexity"], math.e)
    assert Totals(3).measures() == {}


def test_sums_go_on_from_a_checkpoint() -> None:
    """What another process had is continued, and stays its own."""
    first = Totals(3)
    first.add(scores([0, 1], [0, 1], [4.0]))
    second = Totals(3, first.values)
    second.add(scores([2], [2], [2.0]))
    assert (first.measures()["loss"], second.measures()["loss"]) == (2.0, 2.0)
    assert second.measures()["accuracy"] == 1.0
    assert first.values[1] == 2


def test_a_loss_without_bounds_is_infinite_perplexity() -> None:
    """No overflow ends a training."""
    totals = Totals(3)
    totals.add(scores([0], [1], [5000.0]))
    assert totals.measures()["perplexity"] == math.inf


def test_csv() -> None:
    """A header, a line per epoch, and nothing where nothing was tested."""
    text = csv_text([{"epoch": 1, "step": 20, "train_loss": 2.00000049}])
    assert text.splitlines() == [",".join(COLUMNS), "1,20,2.0" + "," * (len(COLUMNS) - 3)]
