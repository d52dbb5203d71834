"""Clips -> batches on a device, read by a thread of its own some batches ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.nn.utils.rnn import pad_sequence

from jobs.taste.corpus import Clip, Corpus, Floats
from jobs.taste.model import Batch

__all__ = ["collate", "read_ahead"]

AHEAD = 2
"""Batches that wait: enough to hide a disk, few enough that clips of 30 s fit the memory."""


def collate(clips: Sequence[Clip]) -> Batch:
    """Padded at the end, with true lengths, in the floats that the files have."""
    return Batch(
        names=[f"{clip.audio_file} of {clip.tar_file}" for clip in clips],
        text=_padded([clip.text for clip in clips]),
        text_lengths=[len(clip.text) for clip in clips],
        mid=_padded([clip.mid for clip in clips]),
        final=_padded([clip.final for clip in clips]),
        frames=[len(clip.mid) for clip in clips],
        units=[torch.from_numpy(clip.units) for clip in clips],
    )


def _padded(arrays: Sequence[Floats]) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(array.copy()) for array in arrays], batch_first=True)


def read_ahead(corpus: Corpus, batches: Iterable[Sequence[int]]) -> Generator[Batch]:
    """The batches of these clips, in this order. Nothing else may read the corpus meanwhile."""
    wanted = iter(batches)
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        while True:
            while len(waiting) <= AHEAD and (numbers := next(wanted, None)) is not None:
                waiting.append(pool.submit(_read, corpus, numbers))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(corpus: Corpus, numbers: Sequence[int]) -> Batch:
    return collate([corpus.read(number) for number in numbers])
