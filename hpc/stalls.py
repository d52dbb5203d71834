"""Since when a task has made no progress, told by its witness in a small file, since the worker itself cannot tell."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from hpc.submissions import Submission
from jobs.any_json import decode_json
from jobs.plain_text import plain
from jobs.reporting import clock_time, counted
from jobs.watchdog import Stall

__all__ = ["TOLD_SECONDS", "Still", "describe_stalls", "read_stalls", "stall_file", "tell_stall"]

TOLD_SECONDS = 120.0
"""Without progress: below that it is a long clip, or a slow disk."""

STALLS_SHOWN = 5


class Still(msgspec.Struct, frozen=True):
    """A task that makes no progress."""

    task: str
    """SUBMISSION/SLOT."""
    node: str
    what: str
    """`decoding clip 7 of 000012`"""
    since: float
    """Seconds since the epoch, by the node's clock: for people."""


def stall_file(submission: Submission, slot: int) -> Path:
    """There while the worker of this slot makes no progress."""
    return submission.folder / "stalls" / f"{slot:05}.json"


def tell_stall(path: Path, task: str, node: str, stall: Stall | None, now: float) -> None:
    """Say what a worker is stuck at since when; or that it is not. Costs nothing but news if it fails."""
    with suppress(OSError):
        if stall is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(msgspec.json.encode(Still(task, node, str(stall.activity), now - stall.seconds)))
        temporary.replace(path)


def read_stalls(alive: Iterable[tuple[Submission, Iterable[int]]]) -> tuple[Still, ...]:
    """What the witnesses of these slots say, the longest first. Only of those that may be alive: a dead one takes nothing
    back.
    """
    found = []
    for submission, slots in alive:
        files = {path.name: path for path in _files(submission)}
        for slot in slots if files else ():
            path = files.get(stall_file(submission, slot).name)
            with suppress(OSError, msgspec.DecodeError):
                if path is not None:
                    found.append(decode_json(path.read_bytes(), Still))
    return tuple(sorted(found, key=lambda still: still.since))


def _files(submission: Submission) -> list[Path]:
    try:
        return list((submission.folder / "stalls").iterdir())
    except OSError:
        return []


def describe_stalls(stalls: Sequence[Still], *, shown: int = STALLS_SHOWN, now: float | None = None) -> list[str]:
    """`task 0003/12 on n2 since 14:02:11 (0:12:40): decoding clip 7 of 000012`, and how many more there are."""
    moment = time.time() if now is None else now
    words = [plain(f"{_task(still, moment)}: {still.what}") for still in stalls[:shown]]
    return [*words, *([f"{counted(len(stalls) - shown, 'more task')}"] if len(stalls) > shown else [])]


def _task(still: Still, now: float) -> str:
    since = time.strftime("%H:%M:%S", time.localtime(still.since))
    seconds = max(0.0, now - still.since)
    return f"task {still.task} on {still.node} has made no progress since {since} ({clock_time(seconds)})"
