"""Waveforms, or whole clips -> batches that give the very tokens that one at a time gives.

A backend declares which batches are exact (audio_tokenizers.base.Batching); nothing else is ever handed to it. No padding
is added: a padded clip's tokens differ in every codec with global attention or symmetric convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from audio_tokenizers.base import Batching
from audio_tokenizers.errors import ClipError

__all__ = ["Batcher"]

Ticket = TypeVar("Ticket")
Item = TypeVar("Item")
Result = TypeVar("Result")

LOOKAHEAD_BATCHES = 4


class Batcher(Generic[Ticket, Item, Result]):
    """Groups items and encodes a group as soon as it is full, or the oldest one when too many wait."""

    def __init__(
        self,
        encode: Callable[[Sequence[Item]], list[Result]],
        batching: Batching,
        max_batch: int,
        max_samples: int,
        samples: Callable[[Item], int],
    ) -> None:
        self._encode = encode
        self._batching = batching
        self._max_batch = 1 if batching is Batching.SINGLE else max_batch
        self._max_samples = max_samples
        """So many samples are a batch, however few items they are: long clips must not fill the memory."""
        self._samples = samples
        self._groups: dict[int, list[tuple[Ticket, Item]]] = {}  # oldest group first
        self._waiting = 0
        self._waiting_samples = 0

    def add(self, ticket: Ticket, item: Item) -> list[tuple[Ticket, Result | ClipError]]:
        """Take one item; return what is encoded by now, each with its ticket, in no promised order."""
        samples = self._samples(item)
        key = samples if self._batching is Batching.EQUAL_LENGTH else 0
        group = self._groups.setdefault(key, [])
        group.append((ticket, item))
        self._waiting += 1
        self._waiting_samples += samples
        if len(group) >= self._max_batch:
            return self._run(key)
        if self._waiting_samples >= self._max_samples or self._waiting >= LOOKAHEAD_BATCHES * self._max_batch:
            return self._run(next(iter(self._groups)))
        return []

    def flush(self) -> list[tuple[Ticket, Result | ClipError]]:
        """Encode all that waits."""
        return [result for key in list(self._groups) for result in self._run(key)]

    def _run(self, key: int) -> list[tuple[Ticket, Result | ClipError]]:
        group = self._groups.pop(key)
        self._waiting -= len(group)
        self._waiting_samples -= sum(self._samples(item) for _, item in group)
        try:
            return list(zip((t for t, _ in group), self._encode([w for _, w in group]), strict=True))
        except ClipError as error:
            if len(group) == 1:
                return [(group[0][0], error)]
        return [self._run_alone(ticket, item) for ticket, item in group]  # one of them is bad: find out which

    def _run_alone(self, ticket: Ticket, item: Item) -> tuple[Ticket, Result | ClipError]:
        try:
            return ticket, self._encode([item])[0]
        except ClipError as error:
            return ticket, error
