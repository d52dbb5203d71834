"""jobs/taste/sampling.py: shares that stay as data grows, and an order that a seed decides."""

from __future__ import annotations

import numpy as np

from jobs.taste.sampling import epoch_steps, split

NAMES = [(f"tar{number % 7}", f"{number}.wav", number % 2) for number in range(2000)]


def test_tested_clips_are_never_trained_on() -> None:
    """Both parts make up the share, and a tested clip stays one in a larger share."""
    train, test = split(NAMES, 0.5, 0.1)
    more_train, more_test = split(NAMES, 1.0, 0.1)
    assert not set(train) & set(test)
    assert set(train) < set(more_train)
    assert set(test) < set(more_test)
    assert len(more_train) + len(more_test) == len(NAMES)
    assert 140 < len(more_test) < 260


def test_each_clip_comes_once_an_epoch() -> None:
    """In batches of the asked size, of clips of similar lengths, in another order each epoch and with each seed."""
    lengths = np.random.default_rng(0).integers(1, 1000, 203)
    steps = epoch_steps(lengths, 4, 50, 1, 0)
    assert sorted(np.concatenate(steps).tolist()) == list(range(203))
    assert sorted(map(len, steps)) == [3] + [4] * 50
    spread = np.mean([np.ptp(lengths[step]) for step in steps])
    assert spread < np.mean([np.ptp(lengths[step]) for step in epoch_steps(lengths, 4, 1, 1, 0)]) / 10
    for other in (epoch_steps(lengths, 4, 50, 1, 1), epoch_steps(lengths, 4, 50, 2, 0)):
        assert [step.tolist() for step in other] != [step.tolist() for step in steps]


def test_the_order_is_the_same_everywhere() -> None:
    """A training goes on with another version of NumPy where it stood."""
    steps = epoch_steps(np.arange(10), 3, 2, 5, 1)
    assert [step.tolist() for step in steps] == [[0, 2, 3], [6, 7, 8], [1, 4, 5], [9]]
