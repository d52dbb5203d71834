"""What a worker tells of itself while it works: a small file that whoever started it may read, and words for it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

__all__ = ["Progress", "ProgressFile", "clock_time", "describe_rate", "eta_seconds"]

WRITE_SECONDS = 0.5
LOG_SECONDS = 30.0

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


class ProgressFile:
    """Publishes a Progress at most twice a second. A lost write costs nothing."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress = Progress()
        self._path = path
        self._clock = clock
        self._written = self._logged = self._started = clock()

    def publish(self, *, now: bool = False) -> None:
        """Write the counts out, if it is time or `now` is set."""
        moment = self._clock()
        if moment - self._logged >= LOG_SECONDS:
            self._logged = moment
            wall = moment - self._started
            log.info("%d clips, %s", self.progress.clips, describe_rate(self.progress.audio_seconds, wall))
        if self._path is None or (moment - self._written < WRITE_SECONDS and not now):
            return
        self._written = moment
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self.progress))
            os.replace(temporary, self._path)  # noqa: PTH105 (one call, no second Path object on this hot path)
        except OSError as error:
            log.debug("progress not written: %s", error)


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
