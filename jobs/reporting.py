"""What a worker tells of itself while it works: log lines, a bar on a terminal, and a small file for whoever started it."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

__all__ = ["BAR_FORMAT", "Pace", "Progress", "ProgressFile", "clock_time", "describe_rate", "eta_seconds"]

WRITE_SECONDS = 0.5
LOG_SECONDS = 30.0
BAR_SECONDS = 0.2
BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
"""For tqdm, without its own rate and ETA: it would count what an earlier attempt has done as done now."""

log = logging.getLogger("tar2tokens")


class Progress(msgspec.Struct):
    """Running counts of one worker. Sums over workers make the live line; results themselves are in the ledger."""

    clips: int = 0
    errors: int = 0
    audio_seconds: float = 0.0
    tars_done: int = 0
    bytes_done: int = 0
    """Of the tars' sizes on disk, what has been used; resumed and finished tars count whole."""
    problems: list[tuple[str, str]] = []
    """(tar name, why it has no committed file)"""
    finished: bool = False
    """The worker came to its end by itself."""


class Pace:
    """Puts progress into words: audio-hours per hour of this attempt, and when it will be done."""

    def __init__(self, total_bytes: int, started: float) -> None:
        self._total_bytes = total_bytes
        self._started = started
        self._bytes_before: int | None = None

    def words(self, progress: Progress, moment: float) -> str:
        """`12 clips, 1 errors, 0.01 audio-h at 310 audio-h/h, ETA 0:01:02`."""
        wall = moment - self._started
        if self._bytes_before is None and progress.clips:
            self._bytes_before = progress.bytes_done  # a resumed tar begins at where its partial ends
        left = eta_seconds(self._bytes_before or 0, progress.bytes_done, self._total_bytes, wall)
        rate = describe_rate(progress.audio_seconds, wall)
        return f"{progress.clips} clips, {progress.errors} errors, {rate}, ETA {clock_time(left)}"


class ProgressFile:
    """Publishes a Progress at most twice a second. A lost write costs nothing."""

    def __init__(self, path: Path | None, *, total_bytes: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress = Progress()
        self._path = path
        self._clock = clock
        self._total_bytes = total_bytes
        self._written = self._logged = self._drawn = clock()
        self._pace = Pace(total_bytes, self._written)
        self._draw: Callable[[str], None] | None = None

    def publish(self, *, now: bool = False) -> None:
        """Write the counts out, if it is time or `now` is set."""
        moment = self._clock()
        if self._draw is not None:
            if moment - self._drawn >= BAR_SECONDS or now:
                self._drawn = moment
                self._draw(self._pace.words(self.progress, moment))
        elif moment - self._logged >= LOG_SECONDS:
            self._logged = moment
            log.info("%s", self._pace.words(self.progress, moment))
        if self._path is None or (moment - self._written < WRITE_SECONDS and not now):
            return
        self._written = moment
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self.progress))
            os.replace(temporary, self._path)  # noqa: PTH105 (one call, no second Path object on this hot path)
        except OSError as error:
            log.debug("progress not written: %s", error)

    @contextmanager
    def on_terminal(self, name: str) -> Iterator[None]:
        """Within this block a bar stands for the log lines about progress, if stderr is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        bar = tqdm(total=self._total_bytes, unit="B", unit_scale=True, desc=name, dynamic_ncols=True, bar_format=BAR_FORMAT)
        with bar, logging_redirect_tqdm([log]):

            def draw(words: str) -> None:
                bar.n = min(self.progress.bytes_done, self._total_bytes)
                bar.set_postfix_str(words, refresh=True)

            self._draw = draw
            try:
                yield
            finally:
                self._draw = None


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
