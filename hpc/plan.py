"""Pure: assign tars to tasks."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from audio_tokenizers.base import Scalar
from hpc.task_id import TaskId
from jobs.spec import TokenizeSpec
from jobs.tar_task import TarTask
from jobs.taste.training import Training

__all__ = ["Plan", "balance", "chunk", "make_plan", "probes", "slots_for", "stop_margin_s"]

Slot = tuple[TarTask, ...]
FILL = 0.8
"""The share of a time limit that `--tars-per-gpu auto` fills: tars differ, and loading the backend takes time."""
LEAST, WIDE = 0.08, 1000
"""See slots_for. LEAST of a limit of two hours is ten minutes, ten times what loading a model takes."""


def stop_margin_s(time_limit_s: float) -> float:
    """How long before its time limit a worker stops starting clips: a tenth of the limit, 5 s to 2 min."""
    return min(120.0, max(5.0, 0.1 * time_limit_s))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One submission's work. Written once and never changed: no task can read another round's list."""

    fingerprint: str
    submission: int
    slots: tuple[tuple[TarTask, ...], ...]
    """One entry per worker process, largest first."""
    processes: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Slots that one array task serves."""
    time_limit_s: float | None = None
    device: str = "cpu"
    options: dict[str, Scalar] = {}
    """The options of the backend for this submission: its weights may have moved since the run's spec was frozen."""
    allow_missing_end: bool = False
    allow_joined: bool = False
    allow_pipe: bool = False
    """Whether the commands of `pipe:COMMAND` tars may be run."""
    decode_threads: int | Literal["auto"] = "auto"
    """Per worker; `auto` is one per available core."""
    buffer_memory: int | None = None
    """Bytes of decoded audio per worker; None is the worker's default."""
    memory_guard: float | None = None
    """Share of its memory at which a worker yields, 0 for never; None for the worker's default."""
    clip_timeout: float | None = None
    """Seconds without progress after which a worker is ended; 0 for never, None for a limit that fits its activity."""
    training: Training | None = None
    """What the one task trains, instead of taking tars."""
    ranks: int = 1
    """Processes that train together, one per GPU."""
    alive: dict[int, tuple[int, ...]] = {}
    """Submission -> slots of the tasks that may have been alive when this plan was made. Claims of other earlier tasks are
    void.
    """

    @property
    def bytes(self) -> int:
        """Size of all tars."""
        return sum(task.bytes for slot in self.slots for task in slot)

    @property
    def elements(self) -> int:
        """Number of array tasks."""
        return -(-len(self.slots) // self.processes)

    def slots_of(self, element: int) -> range:
        """The slots that one array task serves."""
        return range(element * self.processes, min((element + 1) * self.processes, len(self.slots)))

    def knows_gone(self, task: str) -> bool:
        """Whether the task that a claim names had certainly ended when this plan was made."""
        named = TaskId.parse(task)
        if named is None:
            return False
        return named.submission < self.submission and named.slot not in self.alive.get(named.submission, ())


def balance(tasks: Sequence[TarTask], slots: int) -> tuple[tuple[TarTask, ...], ...]:
    """Spread tars over at most `slots` slots, keeping the largest slot small; largest slot first.

    Longest processing time first (Graham 1969): each tar, largest first, goes to the slot with the fewest bytes, which is
    within 4/3 of the best. Ties go to the slot with fewer tars (unknown sizes count as 0 bytes), then by list order. Within
    a slot tars are in list order.
    """
    order = {task.name: position for position, task in enumerate(tasks)}
    heap = [(0, 0, number) for number in range(min(slots, len(tasks)))]
    spread: list[list[TarTask]] = [[] for _ in heap]
    for task in sorted(tasks, key=lambda task: (-task.bytes, order[task.name])):
        load, count, number = heapq.heappop(heap)
        spread[number].append(task)
        heapq.heappush(heap, (load + task.bytes, count + 1, number))
    spread.sort(key=lambda slot: -sum(task.bytes for task in slot))  # the longest work starts first
    return tuple(tuple(sorted(slot, key=lambda task: order[task.name])) for slot in spread)


def slots_for(
    tasks: Sequence[TarTask],
    tars_per_gpu: int | str,
    procs_per_gpu: int,
    time_limit_s: float,
    bytes_per_second: float | None,
) -> int:
    """The number of slots that `--tars-per-gpu` asks for.

    `auto` gives each slot as many bytes as a worker handles in FILL of the time limit, at the rate of the manifests so far.
    If that makes fewer than WIDE slots, they become smaller, down to LEAST of the time limit, because the end of a run
    waits for its longest task. Without a rate, each slot gets one tar.
    """
    if isinstance(tars_per_gpu, int):
        return -(-len(tasks) * procs_per_gpu // tars_per_gpu) if tars_per_gpu > 1 else len(tasks)
    if not bytes_per_second:
        return len(tasks)
    total = sum(task.bytes for task in tasks)
    in_time = time_limit_s * bytes_per_second
    load = min(FILL * in_time, max(LEAST * in_time, total / WIDE))
    return min(len(tasks), max(1, -(-total // max(1, int(load)))))


def probes(slots: Sequence[Slot], tars_per_gpu: int | str, bytes_per_second: float | None, max_array: int) -> Sequence[Slot]:
    """The slots to submit first: `auto` without a rate submits one array, and plans the rest once the rate is known.

    Otherwise a list of many short tars would become as many tasks, each of which loads the model for one tar.
    """
    return slots[:max_array] if tars_per_gpu == "auto" and bytes_per_second is None else slots


def chunk(
    slots: Sequence[tuple[TarTask, ...]], processes: int, max_array: int, room: int | None = None
) -> list[tuple[tuple[TarTask, ...], ...]]:
    """Cut slots into arrays of at most `max_array` elements, with at most `room` elements in all."""
    step = processes * max_array
    limit = len(slots) if room is None else min(len(slots), room * processes)
    return [tuple(slots[start : min(start + step, limit)]) for start in range(0, limit, step)]


def make_plan(
    slots: Sequence[tuple[TarTask, ...]],
    work: TokenizeSpec | Training,
    *,
    submission: int,
    processes: int = 1,
    ranks: int = 1,
    time_limit_s: float | None = None,
    device: str = "cpu",
    options: Mapping[str, Scalar] | None = None,
    allow_missing_end: bool = False,
    allow_joined: bool = False,
    allow_pipe: bool = False,
    decode_threads: int | Literal["auto"] = "auto",
    buffer_memory: int | None = None,
    memory_guard: float | None = None,
    clip_timeout: float | None = None,
    alive: Mapping[int, Collection[int]] | None = None,
) -> Plan:
    """The plan for one submission of a run's tars, or of a training."""
    spec = work if isinstance(work, TokenizeSpec) else None
    return Plan(
        fingerprint=spec.fingerprint if spec is not None else "",
        training=work if isinstance(work, Training) else None,
        ranks=ranks,
        submission=submission,
        slots=tuple(slots),
        processes=processes,
        time_limit_s=time_limit_s,
        device=device,
        options=dict(spec.options if options is None and spec is not None else options or {}),
        allow_missing_end=allow_missing_end,
        allow_joined=allow_joined,
        allow_pipe=allow_pipe,
        decode_threads=decode_threads,
        buffer_memory=buffer_memory,
        memory_guard=memory_guard,
        clip_timeout=clip_timeout,
        alive={number: tuple(sorted(slots)) for number, slots in (alive or {}).items()},
    )
