"""How a worker died, and which of the tars in hand that counts against. Pure, except that it reads partials."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.line_file import count_lines
from jobs.memory_events import OomKills
from jobs.progress import UNENDED, Progress, Try
from jobs.tar_paths import TarPaths
from jobs.watchdog import Stall

__all__ = ["Death", "Tried", "explain", "may_go_on", "timed_out_clips", "what_was_tried", "write_down_death"]

FAULTS = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
)
"""Signals that a process brings on itself. All others come from outside."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker died, when it did not end by itself."""

    cause: Literal["fault", "memory", "stall", "outside"]
    """It crashed; the kernel needed its memory; its witness ended it for lack of progress; it was killed from outside."""
    words: str
    stall: Stall | None = None
    lingers: bool = False
    """It survived SIGKILL, and still holds its memory and its GPU."""


def explain(number: int, stall: Stall | None, before: OomKills | None, after: OomKills | None, *, node: str) -> Death:
    """What killed a worker, judged by the signal `number` and the kernel's out-of-memory counts before and after.

    Where these counts cannot be read, SIGKILL is attributed to the kernel, which it usually comes from.
    """
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if stall is not None and number == signal.SIGKILL:
        return Death("stall", f"the worker was ended: {stall}", stall)
    if number != signal.SIGKILL:
        cause: Literal["fault", "outside"] = "fault" if number in FAULTS else "outside"
        by = f": someone or something on {node} kills it" if cause == "outside" else ""
        return Death(cause, f"the worker was killed by {name}{by}")
    if before is None or after is None or before.file != after.file:
        return Death("memory", f"the worker was killed by {name}; whether for its memory cannot be seen on {node}")
    if after.number > before.number:
        words = f"the kernel's out-of-memory killer ended the worker (oom_kill in {Path(after.file).name})"
        return Death("memory", words)
    words = f"killed by signal {int(number)} without a memory event: someone or something on {node} kills it"
    return Death("outside", words)


@dataclass(frozen=True)
class Tried:
    """What earlier workers of the same task have tried."""

    skip: frozenset[str] = frozenset()
    """Tars that are left to other tasks."""
    search: frozenset[str] = frozenset()
    """Tars in which a worker died with several clips in hand: the next worker takes them first, one clip at a time."""


def what_was_tried(tries: Sequence[Try]) -> Tried:
    """What the next worker of a task does with the tars that earlier ones tried.

    A tar whose worker died of something else has not changed: it is tried again, clip by clip if it was before.
    """
    last = {attempt.name: attempt for attempt in tries}
    again = {name for name, attempt in last.items() if attempt.outcome in ("killed", "yielded")}
    search = {name for name, attempt in last.items() if attempt.several or (name in again and attempt.alone)}
    return Tried(skip=frozenset(last.keys() - search - again), search=frozenset(search))


def write_down_death(report: Progress, output_dir: Path, death: Death, *, asked: bool) -> list[Try]:
    """Complete a dead worker's report; returns the tries that its death counts against, if only as one more try.

    A worker that takes one clip at a time writes its line before it reads the next, so the clip in hand is the one after the
    last line. Other workers have several clips in hand, of one tar or more, and any of them may be the cause. Tars that had
    no part in it go on with the next worker. If the worker was `asked` to stop, nothing is blamed: it may have been killed
    for being slow to.
    """
    if asked:
        return []
    in_hand = [attempt for attempt in report.tries if attempt.outcome in UNENDED]
    concerned = _concerned(in_hand, death)
    for attempt in in_hand:
        if attempt not in concerned:
            attempt.outcome = "yielded"
            continue
        _judge(attempt, output_dir, death)
        log.error("%s: %s", attempt.name, attempt.problem)
    return concerned


def may_go_on(death: Death, tries: Sequence[Try]) -> bool:
    """Whether another worker of the same task may do better. It will not where loading the backend stalled, nor beside a
    process that survived SIGKILL.
    """
    if death.lingers:
        return False
    if death.stall is not None:
        return death.stall.activity.what != "load"
    return death.cause == "outside" or any(attempt.several or attempt.clip is not None for attempt in tries)


def _concerned(in_hand: Sequence[Try], death: Death) -> list[Try]:
    """The tars in hand that may have caused the death."""
    if death.cause == "outside":
        return list(in_hand[:1])  # one death is one try
    if death.stall is not None:
        return [attempt for attempt in in_hand if death.stall.activity.concerns(attempt.name)]
    return list(in_hand)


def _judge(attempt: Try, output_dir: Path, death: Death) -> None:
    """Record in one try how a death ended it."""
    loading = attempt.outcome == "loading"
    reading = death.stall is not None and death.stall.activity.what == "read"
    attempt.problem = death.words
    if death.cause == "outside":
        attempt.outcome = "killed"
        return
    if reading:
        attempt.outcome = "machine"
        attempt.problem += "; does its file system answer?"
        return
    attempt.outcome = "died"
    attempt.timed_out = death.stall is not None
    if loading:
        if death.stall is None:
            attempt.problem += " while it loaded the backend"
    elif attempt.alone:
        attempt.clip = _lines(TarPaths(output_dir, attempt.name).partial)
        attempt.problem += f" with clip {attempt.clip} in hand, counted from 0"
    else:
        attempt.several = True
        attempt.problem += " with several clips in hand; the next try takes them one at a time, to find out which it is"


def timed_out_clips(crash_clips: Mapping[str, Sequence[int]], tries: Iterable[Try]) -> dict[str, tuple[int, ...]]:
    """Tar -> those of its crash clips that only ever timed out; the others have crashed at least one worker."""
    crashed = {(attempt.name, attempt.clip) for attempt in tries if attempt.outcome == "died" and not attempt.timed_out}
    found = {name: tuple(clip for clip in clips if (name, clip) not in crashed) for name, clips in crash_clips.items()}
    return {name: clips for name, clips in found.items() if clips}


def _lines(partial: Path) -> int:
    try:
        return count_lines(partial)
    except OSError:
        return 0
