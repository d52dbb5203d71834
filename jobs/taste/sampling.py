"""Pure: which clips a training takes, which it tests on, and in which order and batches they come.

The same numbers give the same order with any version of NumPy: only the raw stream of PCG64 is used, which is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobs.subset import in_share
from jobs.taste.run_index import ClipName

__all__ = ["epoch_steps", "split"]


def split(
    names: Sequence[ClipName], subset_ratio: float, test_ratio: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the clips to train on, and of those to test on."""
    taken = [number for number, name in enumerate(names) if in_share(name, subset_ratio, "subset")]
    tested = {number for number in taken if in_share(names[number], test_ratio, "test")}
    train = [number for number in taken if number not in tested]
    return np.array(train, np.int64), np.array(sorted(tested), np.int64)


def epoch_steps(
    lengths: npt.NDArray[np.int64], batch_size: int, bucket_batches: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """The clips of each step of an epoch, as places in `lengths`. Each comes once; the last step may have fewer.

    Clips are shuffled, and `bucket_batches` batches of them at a time sorted by length and cut; then the steps are shuffled.
    """
    order = _shuffled(len(lengths), seed, epoch, 0)
    pool = batch_size * bucket_batches
    steps = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        if bucket_batches > 1:
            part = part[np.argsort(lengths[part], kind="stable")]
        steps += [part[begin : begin + batch_size] for begin in range(0, len(part), batch_size)]
    return [steps[place] for place in _shuffled(len(steps), seed, epoch, 1)]


def _shuffled(count: int, seed: int, epoch: int, purpose: int) -> npt.NDArray[np.int64]:
    stream = np.random.PCG64(np.random.SeedSequence([seed, epoch, purpose]))
    return np.argsort(stream.random_raw(count), kind="stable") if count else np.arange(0)
