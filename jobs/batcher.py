"""Pure: items -> batches that give the very tokens that one at a time gives.

A backend declares which batches are exact (audio_tokenizers.base.Batching); nothing else is ever handed to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from audio_tokenizers.base import Batching, LaneShape
from jobs.lane_grid import LaneGrid

__all__ = ["Batch", "Batcher"]

Item = TypeVar("Item")
Rank = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """What one call gets."""

    items: list[Item]
    shape: LaneShape | None
    """Of a call with lanes."""


@dataclass(slots=True)
class _Group(Generic[Item]):
    """Items that may share a batch."""

    items: list[Item]
    samples: int
    since: float
    """When the first of them came."""


class Batcher(Generic[Item]):
    """Groups items. What to do with a group that is not full is for those to say who know what else is to come."""

    def __init__(
        self,
        batching: Batching,
        max_batch: int,
        *,
        max_samples: int,
        samples: Callable[[Item], int],
        order: Callable[[Item], Rank],
        grid: LaneGrid | None = None,
    ) -> None:
        """`max_samples` are a batch, however few items they are; with LANES it is the `grid` that bounds a call. `order`
        says which items are wanted first: lines wait for them.
        """
        if (batching is Batching.LANES) != (grid is not None):
            raise ValueError("LANES needs a grid, and nothing else does")
        self._batching = batching
        self._max_batch = 1 if batching is Batching.SINGLE else max_batch
        self._max_samples = max_samples
        self._samples = samples
        self._order = order
        self._grid = grid
        self._groups: dict[Hashable, _Group[Item]] = {}  # the one with the oldest item first
        self._full: list[tuple[Rank, int, Batch[Item]]] = []  # a heap; the number settles ties
        self._filled = 0
        self.waiting = 0
        """Items that are in no batch that was taken."""

    def add(self, item: Item, now: float) -> None:
        """Take an item that came at `now`, in seconds."""
        samples = self._samples(item)
        shape = self._grid.shape(samples) if self._grid is not None else None
        key: Hashable = shape or (samples if self._batching is Batching.EQUAL_LENGTH else None)
        group = self._groups.setdefault(key, _Group([], 0, now))
        group.items.append(item)
        group.samples += samples
        self.waiting += 1
        most = self._max_batch if shape is None else shape.lanes
        if len(group.items) >= most or (shape is None and group.samples >= self._max_samples):
            self._filled += 1
            heapq.heappush(self._full, (min(map(self._order, group.items)), self._filled, self._close(key)))

    def take(self, now: float, *, wait_seconds: float) -> Batch[Item] | None:
        """The full batch that is wanted first; else the group whose oldest item has waited for `wait_seconds`; else none."""
        if self._full:
            batch = heapq.heappop(self._full)[2]
        elif self._groups and now - self._oldest().since >= wait_seconds:
            batch = self._close(next(iter(self._groups)))
        else:
            return None
        self.waiting -= len(batch.items)
        return batch

    def oldest_since(self) -> float | None:
        """When the item came that waits longest in a group that is not full; None if there is none."""
        return self._oldest().since if self._groups else None

    def _oldest(self) -> _Group[Item]:
        return next(iter(self._groups.values()))

    def _close(self, key: Hashable) -> Batch[Item]:
        return Batch(self._groups.pop(key).items, key if isinstance(key, LaneShape) else None)
