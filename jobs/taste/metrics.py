"""How well units are predicted: sums over batches and ranks -> loss, accuracy, top-5, F1 and perplexity, and metrics.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jobs.taste.model import Scores

__all__ = ["COLUMNS", "Totals", "csv_text"]

MEASURES = ("loss", "accuracy", "top5", "f1", "perplexity")
COLUMNS = ("epoch", "step", *(f"{part}_{measure}" for part in ("train", "test") for measure in MEASURES))
SUMS = 4
DIGITS = 6


class Totals:
    """Sums over unit positions, in one tensor, so that they are stored and added up over ranks in one go."""

    def __init__(self, units: int, values: Tensor | None = None) -> None:
        """`values` continues with what another one had."""
        self._classes = units + 1
        self.values = torch.zeros(SUMS + 3 * self._classes, dtype=torch.float64) if values is None else values.clone()
        """float64: loss, positions, right ones, right within five; per unit: how often right, predicted, and there."""

    def add(self, scores: Scores) -> None:
        """A batch."""
        targets, predicted = scores.targets.cpu(), scores.predicted.cpu()
        right = targets[targets == predicted]
        sums = [scores.losses.detach().double().sum().item(), scores.positions, len(right), scores.in_top]
        self.values[:SUMS] += torch.tensor(sums, dtype=torch.float64)
        counts = [torch.bincount(each, minlength=self._classes) for each in (right, predicted, targets)]
        self.values[SUMS:] += torch.cat(counts)

    def measures(self) -> dict[str, float]:
        """By MEASURES; empty where nothing was added.

        Accuracy, top-5 and F1 have the true units before each position as input. F1 is the mean over all units that occur
        or were predicted, of each unit's harmonic mean of precision and recall, so that rare units count like frequent ones.
        """
        loss, positions, right, in_top = self.values[:SUMS].tolist()
        if not positions:
            return {}
        hits, predicted, there = self.values[SUMS:].view(3, -1)
        occurs = predicted + there > 0
        f1 = (2 * hits[occurs] / (predicted + there)[occurs]).mean().item()
        mean = loss / positions
        perplexity = math.exp(mean) if mean < 700 else math.inf
        return dict(zip(MEASURES, (mean, right / positions, in_top / positions, f1, perplexity), strict=True))


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """A line per epoch, by COLUMNS; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: round(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
