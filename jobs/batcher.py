"""Pure: items -> batches that give exactly the tokens of encoding one item at a time.

A backend declares which batches are exact (audio_tokenizers.base.Batching); it never gets any other.
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
    """The items of one call."""

    items: list[Item]
    shape: LaneShape | None
    """The shape of a call with lanes; None for other calls."""


@dataclass(slots=True)
class _Group(Generic[Item]):
    """Items that may share a batch."""

    items: list[Item]
    samples: int
    since: float
    """Arrival of the first item, in seconds."""


class Batcher(Generic[Item]):
    """Groups items. Callers, who know what else is to come, decide how long a group that is not full waits."""

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
        """A group of `max_samples` is a full batch, however few its items; with LANES, the `grid` limits a call. `order`
        ranks items, lowest first: lines wait for them.
        """
        if (batching is Batching.LANES) != (grid is not None):
            raise ValueError("LANES needs a grid, and nothing else does")
        self._batching = batching
        self._max_batch = 1 if batching is Batching.SINGLE else max_batch
        self._max_samples = max_samples
        self._samples = samples
        self._order = order
        self._grid = grid
        self._groups: dict[Hashable, _Group[Item]] = {}  # oldest first item first
        self._full: list[tuple[Rank, int, Batch[Item]]] = []  # a heap; the number breaks ties
        self._filled = 0
        self.waiting = 0
        """Items added but not yet taken."""

    def add(self, item: Item, now: float) -> None:
        """Add an item that arrived at `now`, in seconds."""
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
        """The full batch that is wanted first; else the oldest group, if it has waited for `wait_seconds`; else None."""
        if self._full:
            batch = heapq.heappop(self._full)[2]
        elif self._groups and now - self._oldest().since >= wait_seconds:
            batch = self._close(next(iter(self._groups)))
        else:
            return None
        self.waiting -= len(batch.items)
        return batch

    def oldest_since(self) -> float | None:
        """Arrival of the item that has waited longest in a group that is not full; None if there is no such group."""
        return self._oldest().since if self._groups else None

    def _oldest(self) -> _Group[Item]:
        return next(iter(self._groups.values()))

    def _close(self, key: Hashable) -> Batch[Item]:
        return Batch(self._groups.pop(key).items, key if isinstance(key, LaneShape) else None)
