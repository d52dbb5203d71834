"""What the commands show of their progress: rates, times, how often a log line comes, and the one bar."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobs.plain_text import plain

if TYPE_CHECKING:  # imported when there is a terminal
    from tqdm import tqdm

__all__ = ["LOG_SECONDS", "bar_on_terminal", "clock_time", "describe_rate", "eta_seconds"]

LOG_SECONDS = 30.0
"""Between two log lines about progress."""
NO_RATE = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"

log = logging.getLogger("tar2tokens")


@contextmanager
def bar_on_terminal(
    what: str, total: int | None, unit: str = "B", *, own_rate: bool = True, brief: bool = False
) -> Iterator[tqdm[Any] | None]:
    """A bar on stderr within this block, with the log's lines above it; None if stderr is no terminal.

    Without `own_rate` tqdm shows neither rate nor ETA: they would count the work of earlier attempts as done now. A `brief`
    bar appears after a second and is gone at the end.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    bar = tqdm(
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        desc=plain(what),
        dynamic_ncols=True,
        bar_format=None if own_rate else NO_RATE,
        delay=1 if brief else 0,
        leave=not brief,
    )
    with bar, logging_redirect_tqdm([log]):
        yield bar


def describe_rate(audio_seconds: float, wall_seconds: float) -> str:
    """`1.25 audio-h at 310 audio-h/h`."""
    rate = audio_seconds / wall_seconds if wall_seconds > 0 else 0.0
    return f"{audio_seconds / 3600:.2f} audio-h at {rate:.0f} audio-h/h"


def eta_seconds(bytes_before: int, bytes_done: int, bytes_total: int, wall_seconds: float) -> float | None:
    """Seconds until the rest is done at the rate so far; None before there is a rate."""
    used = bytes_done - bytes_before
    if used <= 0 or wall_seconds <= 0:
        return None
    return max(bytes_total - bytes_done, 0) * wall_seconds / used


def clock_time(seconds: float | None) -> str:
    """`1:02:03`, or `?`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
