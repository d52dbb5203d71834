"""A run's own report, `.run/report.html`. The controller starts this (hpc/fresh_report.py); for users: tools.report."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from audio_tokenizers.errors import Tar2TokensError
from hpc.lock import LockHeldError, locked
from hpc.run import Run
from jobs.commands import command_parser, setup_logging
from jobs.fileops import FileOps, write_atomically
from tools.reporting.gather import gather
from tools.reporting.page import render

__all__ = ["refresh"]

LOWEST_PRIORITY = 19
LIMIT_SECONDS = 600
"""A report that hangs, for example on a file system, is killed after this time."""


def refresh(run: Run, *, wait: bool) -> None:
    """Replace the run's report, unless another process is making one; with `wait`, after that."""
    with locked(run.folder / "report.lock", take_over_after=LIMIT_SECONDS, wait=wait):
        facts, _ = gather(run, time.time())
        page, _ = render(facts)
        write_atomically(FileOps(), run.report_file, page.encode())


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("output_dir", type=Path, help="the run directory")
    parser.add_argument("--wait", action="store_true", help="wait for a report that is being made")
    given = parser.parse_args()
    setup_logging(verbose=False)
    os.nice(LOWEST_PRIORITY)
    signal.alarm(LIMIT_SECONDS)
    try:
        refresh(Run(given.output_dir.absolute()), wait=given.wait)
    except LockHeldError:
        sys.exit(0)
    except (Tar2TokensError, OSError) as problem:
        sys.exit(f"error: {problem}")
