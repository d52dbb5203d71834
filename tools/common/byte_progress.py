"""Progress through bytes: a bar on a terminal, else a log line now and then, with rate and ETA."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.console import LOG_SECONDS, bar_on_terminal, clock_time, eta_seconds

__all__ = ["ByteProgress"]

MB = 1e6

log = logging.getLogger("tar2tokens")


class ByteProgress:
    """Called with the number of bytes done."""

    def __init__(self, what: str, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._done = self._before = 0
        self._started = self._logged = clock()
        self._draw: Callable[[int, int], None] | None = None

    def __call__(self, size: int, /, *, before: bool = False) -> None:
        """Count `size` bytes; `before`: an earlier attempt did them, and they do not count for the rate."""
        self._done += size
        self._before += size if before else 0
        if self._draw is not None:
            self._draw(self._done, self._before)
            return
        moment = self._clock()
        if moment - self._logged >= LOG_SECONDS:
            self._logged = moment
            log.info("%s", self._line(moment - self._started))

    def _line(self, wall: float) -> str:
        rate = (self._done - self._before) / wall / MB
        left = clock_time(eta_seconds(self._before, self._done, self._total, wall))
        return f"{self._what}: {self._done / MB:,.0f} of {self._total / MB:,.0f} MB, {rate:,.0f} MB/s, ETA {left}"

    @contextmanager
    def on_terminal(self) -> Iterator[None]:
        """Within this block a bar replaces the log lines, if stderr is a terminal."""
        with bar_on_terminal(self._what, self._total) as bar:
            if bar is None:
                yield
                return

            def draw(done: int, before: int) -> None:
                bar.initial = before
                bar.update(done - bar.n)

            self._draw = draw
            try:
                yield
            finally:
                self._draw = None
