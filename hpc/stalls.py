"""Tasks without progress. The witness reports each in a small file, since a stuck worker cannot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from audio_tokenizers.shared.wording import counted
from hpc.submissions import Submission
from jobs.any_json import decode_json
from jobs.console import clock_time
from jobs.plain_text import plain
from jobs.watchdog import Stall

__all__ = ["REPORTED_SECONDS", "Still", "describe_stalls", "read_stalls", "stall_file", "write_stall"]

REPORTED_SECONDS = 120.0
"""Seconds without progress that are reported. Less is a long clip or a slow disk."""

STALLS_SHOWN = 5


class Still(msgspec.Struct, frozen=True):
    """A task without progress."""

    task: str
    """SUBMISSION/SLOT."""
    node: str
    what: str
    """`decoding clip 7 of 000012`"""
    since: float
    """Seconds since the epoch by the node's clock; only for display."""


def stall_file(submission: Submission, slot: int) -> Path:
    """The file that exists while the worker of this slot makes no progress."""
    return submission.folder / "stalls" / f"{slot:05}.json"


def write_stall(path: Path, task: str, node: str, stall: Stall | None, now: float) -> None:
    """Report where a worker has been stuck and since when, or with None that it is not. Failure to write is ignored."""
    with suppress(OSError):
        if stall is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(msgspec.json.encode(Still(task, node, str(stall.activity), now - stall.seconds)))
        temporary.replace(path)


def read_stalls(alive: Iterable[tuple[Submission, Iterable[int]]]) -> tuple[Still, ...]:
    """The reports for these slots, longest stall first.

    `alive` are slots of tasks that may be alive: a dead witness cannot remove its report.
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
    """`task 0003/12 on n2 has made no progress since 14:02:11 (0:12:40): decoding clip 7 of 000012`, then how many more."""
    moment = time.time() if now is None else now
    words = [plain(f"{_task(still, moment)}: {still.what}") for still in stalls[:shown]]
    return [*words, *([f"{counted(len(stalls) - shown, 'more task')}"] if len(stalls) > shown else [])]


def _task(still: Still, now: float) -> str:
    since = time.strftime("%H:%M:%S", time.localtime(still.since))
    seconds = max(0.0, now - still.since)
    return f"task {still.task} on {still.node} has made no progress since {since} ({clock_time(seconds)})"
