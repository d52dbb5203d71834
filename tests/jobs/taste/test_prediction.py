"""jobs/taste/prediction.py: how far a prediction agrees, and how it is shown."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.taste.corpus import Clip
from jobs.taste.prediction import Prediction


def prediction(real: list[int], predicted: list[int], name: str = "a.wav") -> Prediction:
    none = np.zeros((1, 1), np.float32)
    return Prediction(Clip("t.tar", name, "some words", none, none, none, np.array(real)), predicted)


@pytest.mark.parametrize(
    ("predicted", "agreement"),
    [([0, 1, 2, 3], 1.0), ([0, 1, 2], 0.75), ([0, 1, 2, 3, 4], 0.8), ([1, 2, 3, 0], 0.0), ([], 0.0), ([0, 0, 2, 0], 0.5)],
)
def test_what_is_missing_counts_as_wrong(predicted: list[int], agreement: float) -> None:
    """The longer of both is the whole: a prediction that stops early does not look good for it."""
    assert prediction([0, 1, 2, 3], predicted).agreement == agreement


def test_ten_units_are_shown() -> None:
    """With how many there are; a name cannot write over the terminal."""
    words = prediction(list(range(12)), [5], "a\x1b[2J.wav").words()
    assert "real      0 1 2 3 4 5 6 7 8 9 ... (12)\n" in words
    assert "predicted 5 (1)\n" in words
    assert "\x1b" not in words
