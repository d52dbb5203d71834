"""Pure: which worker gets which tars."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from audio_tokenizers.base import Scalar
from jobs.outputs import TarTask
from jobs.spec import TokenizeSpec

__all__ = ["Plan", "balance", "make_plan"]


class Plan(msgspec.Struct, frozen=True):
    """One submission's work. Written once, never changed: a task can never read another round's list."""

    fingerprint: str
    slots: tuple[tuple[TarTask, ...], ...]
    """One entry per worker."""
    options: dict[str, Scalar] = {}
    """How this submission loads the backend: its weights may have moved since the run's spec was frozen."""
    retry_errors: bool = False
    allow_missing_end: bool = False

    @property
    def bytes(self) -> int:
        """Size of all tars."""
        return sum(task.bytes for slot in self.slots for task in slot)


def balance(tasks: Sequence[TarTask], workers: int) -> tuple[tuple[TarTask, ...], ...]:
    """Spread tars over at most `workers` slots so that the largest slot is small.

    Longest processing time first (Graham 1969): each tar, largest first, goes to the slot with the fewest bytes, which is
    within 4/3 of the best. Ties go to the slot with fewer tars (those whose size is not known count 0 bytes) and keep the
    list's order, and a slot works in the list's order too.
    """
    order = {task.name: position for position, task in enumerate(tasks)}
    heap = [(0, 0, number) for number in range(min(workers, len(tasks)))]
    slots: list[list[TarTask]] = [[] for _ in heap]
    for task in sorted(tasks, key=lambda task: (-task.bytes, order[task.name])):
        load, count, number = heapq.heappop(heap)
        slots[number].append(task)
        heapq.heappush(heap, (load + task.bytes, count + 1, number))
    return tuple(tuple(sorted(slot, key=lambda task: order[task.name])) for slot in slots)


def make_plan(
    tasks: Sequence[TarTask],
    workers: int,
    spec: TokenizeSpec,
    *,
    retry_errors: bool = False,
    allow_missing_end: bool = False,
) -> Plan:
    """The plan for one submission on `workers` workers."""
    slots = balance(tasks, workers)
    return Plan(spec.fingerprint, slots, spec.options, retry_errors=retry_errors, allow_missing_end=allow_missing_end)
