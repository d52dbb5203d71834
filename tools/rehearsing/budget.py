"""Pure: the plan for a whole list, from the forecast of a sample, as findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audio_tokenizers.shared.wording import counted, size_words
from jobs.console import clock_time
from tools.common.findings import Finding, fault, fine, warning
from tools.rehearsing.forecast import CONFIDENCE, Forecast, Range

__all__ = ["Budget", "figure", "judge_budget", "judge_room", "make_budget"]

ROOM_BESIDE = 1.05
"""Partials, manifests and logs beside the tokens."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the tars of a list take."""

    tars: int
    bytes: int
    """Of all tars, those of unknown size taken for average ones."""
    unknown: int
    """Tars of unknown size."""
    audio_hours: Range
    worker_hours: Range
    output_bytes: Range
    tasks: int
    """Array tasks; 0 on one machine."""
    longest_hours: float
    """Of the longest array task."""
    workers: int
    """That work at once, as far as is known."""
    per_gpu: int
    """Workers that share a GPU; 0 without GPUs."""

    @property
    def hours(self) -> Range:
        """By the clock, if so many workers are at work all the time."""
        return self.worker_hours * (1 / max(self.workers, 1))


def make_budget(
    sizes: Sequence[int],
    found: Forecast,
    startup_s: float,
    *,
    slots: Callable[[float], Sequence[int]],
    processes: int,
    workers: int,
    per_gpu: int,
) -> Budget | None:
    """The budget for tars of these sizes in bytes, 0 where unknown. None if no size is known.

    `slots`: bytes per second of a worker, 0 if unknown -> bytes of each worker process that is planned; `processes`: of an
    array task, 0 on one machine; `workers`: how many work at once.
    """
    known = [size for size in sizes if size]
    if not known:
        return None
    total = round(sum(known) / len(known) * len(sizes))
    loads = slots(1 / found.seconds.value if found.seconds.value > 0 else 0.0)
    starts = len(loads) * startup_s
    return Budget(
        tars=len(sizes),
        bytes=total,
        unknown=len(sizes) - len(known),
        audio_hours=found.audio_seconds * (total / 3600),
        worker_hours=(found.seconds * total + starts) * (1 / 3600),
        output_bytes=found.output_bytes * total,
        tasks=-(-len(loads) // processes) if processes else 0,
        longest_hours=(max(loads) * found.seconds.value + startup_s) / 3600,
        workers=min(workers, len(loads)),
        per_gpu=per_gpu,
    )


def judge_budget(budget: Budget | None, unsure: Sequence[str], *, time_limit_min: int, at_once: str) -> list[Finding]:
    """The plan, and how sure it is. `at_once` says where the number of workers at once is from."""
    if budget is None:
        return [warning("plan", "no size of a tar is known: no plan", "sizes are known of files and of addresses")]
    words = f"{counted(budget.tars, 'tar')}, {size_words(budget.bytes)}: {_hours(budget.audio_hours)} audio-h in "
    words += f"{_times(budget.hours)} with {counted(budget.workers, 'worker')} at once ({at_once})"
    findings = [fine("plan", words)]
    unit = "GPU-hours" if budget.per_gpu else "worker-hours"
    cost = budget.worker_hours * (1 / max(budget.per_gpu, 1))
    per_thousand = 1000 * cost.value / budget.audio_hours.value if budget.audio_hours.value else 0.0
    findings.append(fine("cost", f"{_hours(cost)} {unit}, {figure(per_thousand)} per 1,000 audio-h"))
    if budget.tasks:
        limit = time_limit_min / 60
        words = f"{counted(budget.tasks, 'array task')}; the longest takes {figure(budget.longest_hours)} of "
        words += f"{figure(limit)} hours"
        if budget.longest_hours > limit:
            words += ", and goes on in the next round"
        findings.append(fine("array tasks", words))
    if budget.unknown:
        words = f"{counted(budget.unknown, 'tar')} of unknown size, taken for average"
        findings.append(warning("sizes", words, "a command's output has none"))
    how = f"bootstrap over tars and excerpts, {CONFIDENCE:.0%}"
    if unsure:
        findings.append(warning("interval", f"{how}: {'; '.join(unsure)}", "more --clips say more"))
    else:
        findings.append(fine("interval", how))
    return findings


def judge_room(budget: Budget, free: int) -> Finding:
    """Whether the tokens fit where they go."""
    wanted = budget.output_bytes * ROOM_BESIDE
    words = f"{_sizes(wanted)} of output, {size_words(free)} free"
    if wanted.low > free:
        return fault("disk", words, "make room, or choose another --output-dir")
    if wanted.high > free:
        return warning("disk", words, "it may not be enough")
    return fine("disk", words)


def _hours(hours: Range) -> str:
    """`12 (11 to 13)`."""
    return f"{figure(hours.value)} ({figure(hours.low)} to {figure(hours.high)})"


def _times(hours: Range) -> str:
    """`12:00:00 (11:00:00 to 13:00:00)`."""
    value, low, high = (clock_time(3600 * one) for one in (hours.value, hours.low, hours.high))
    return f"{value} ({low} to {high})"


def figure(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sizes(sizes: Range) -> str:
    return f"{size_words(sizes.value)} ({size_words(sizes.low)} to {size_words(sizes.high)})"
