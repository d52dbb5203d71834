"""Keeps a run's `.run/report.html` fresh: starts tools.reporting.refresh beside the rounds, which never wait for it."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import is_installed
from hpc.run import Run
from jobs.run_module import module_command

__all__ = ["FreshReport", "is_due"]

VARIABLE, OFF = "TAR2TOKENS_REPORT", "off"
PACKAGES = ("jinja2", "matplotlib")
REFRESH_SECONDS = 60.0
SECONDS_PER_TAR = 0.002
"""A report takes about 0.15 ms of CPU per tar: large runs get theirs less often, so that it keeps at most a tenth of a core
busy.
"""
LAST_SECONDS = 60.0
"""A command that ends waits so long for the report that it started: 100,000 tars take 15 s."""

log = logging.getLogger("tar2tokens")


class FreshReport:
    """Starts reports of one run, one at a time. Does nothing where the report's packages are missing or it is switched off.

    Trouble with a report never concerns a round: it is in `.run/report.log`.
    """

    def __init__(self, run: Run, *, begun: float = -math.inf, clock: Callable[[], float] = time.time) -> None:
        """`begun`: when the watch began, in seconds since the epoch; the first report is due a minute later."""
        self._run = run
        self._begun = begun
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._on = os.environ.get(VARIABLE) != OFF and all(map(is_installed, PACKAGES))

    def refresh(self, tars: int, *, ended: bool = False) -> None:
        """Start a report if one is due. `ended`: this is the last one, so it is made even if the latest is new."""
        if not self._on:
            return
        if not ended and (self._at_work() or not is_due(tars, self._clock(), max(self._begun, _written(self._page)))):
            return
        self._begun = self._clock()
        try:
            if self._run.read_state().training is not None:  # it has no tokens to report on
                return
            command = module_command("tools.reporting.refresh", self._run.output_dir, *(["--wait"] if ended else []))
            with (self._run.folder / "report.log").open("wb") as output:
                self._child = subprocess.Popen(  # noqa: S603 (our own module)
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
        except (OSError, UsageError) as error:
            log.debug("no report: %s", error)

    def wait(self, seconds: float = LAST_SECONDS) -> None:
        """Wait for the report that was started, if there is one: where this process ends, so may all that it started, as in
        a container, a batch job or a unit of systemd.
        """
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)

    @property
    def _page(self) -> Path:
        return self._run.report_file

    def _at_work(self) -> bool:
        return self._child is not None and self._child.poll() is None


def is_due(tars: int, now: float, latest: float) -> bool:
    """Pure: whether it is time for a report of so many tars, `latest` being the time of the latest."""
    return now - latest >= max(REFRESH_SECONDS, SECONDS_PER_TAR * tars)


def _written(page: Path) -> float:
    try:
        return page.stat().st_mtime
    except OSError:
        return -math.inf
