"""Follows the workers of a submission on this machine: live progress, a clean stop, and what went wrong."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import msgspec
from tqdm import tqdm

from hpc.cluster import Failure, LocalWorkers, progress_file
from hpc.plan import Plan
from jobs.reporting import BAR_FORMAT, Pace, Progress

__all__ = ["Interruption", "Outcome", "add_up", "follow"]

POLL_SECONDS = 0.2
LINE_SECONDS = 10.0
LOG_LINES = 5
NAMES_SHOWN = 5
FULL_DISK_BYTES = 1 << 20


class Interruption:
    """SIGINT or SIGTERM, remembered. Nothing else happens in the handlers, so that they may interrupt anything."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.count = 0

    def __call__(self) -> bool:
        """Whether there was one."""
        return self.signal is not None

    def _set(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.count += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within this block, which is to hold the workers' lives from before the first one's start."""
        before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Outcome(msgspec.Struct, frozen=True):
    """How a submission ended."""

    exit_code: int
    """0; 1 if something went wrong; 128 + signal if interrupted."""
    total: Progress
    wall_seconds: float


def add_up(parts: Sequence[Progress]) -> Progress:
    """The sum of all workers' counts."""
    return Progress(
        clips=sum(part.clips for part in parts),
        errors=sum(part.errors for part in parts),
        audio_seconds=sum(part.audio_seconds for part in parts),
        tars_done=sum(part.tars_done for part in parts),
        bytes_done=sum(part.bytes_done for part in parts),
        problems=[problem for part in parts for problem in part.problems],
        finished=all(part.finished for part in parts),
    )


def read_progress(submission: Path, slots: int) -> list[Progress]:
    """What each worker has published so far."""
    found = []
    for slot in range(slots):
        progress = Progress()
        with suppress(OSError, msgspec.DecodeError):
            progress = msgspec.json.decode(progress_file(submission, slot).read_bytes(), type=Progress)
        found.append(progress)
    return found


def follow(workers: LocalWorkers, submission: Path, plan: Plan, interruption: Interruption) -> Outcome:
    """Show progress until every worker has ended, and then what went wrong."""
    started = time.monotonic()
    try:
        total = _watch(workers, submission, plan, interruption)
    except BaseException:  # such as a terminal that has gone: nobody is left to follow them
        workers.stop_all()
        raise
    failures = workers.failures()
    if interruption.count > 1:
        failures = []  # we killed them
    elif interruption():  # whoever had not begun could do nothing but die of it
        failures = [failure for failure in failures if progress_file(submission, failure.slot).exists()]
    for words in [*describe_problems(total.problems), *map(_describe_failure, failures)]:
        print(f"error: {words}", file=sys.stderr)
    if failures and shutil.disk_usage(submission).free < FULL_DISK_BYTES:
        print(f"error: the disk of {submission} is full: make room", file=sys.stderr)
    exit_code = 1 if total.problems or failures else 0
    if interruption.signal is not None:
        exit_code = 128 + interruption.signal
    return Outcome(exit_code, total, time.monotonic() - started)


def _watch(workers: LocalWorkers, submission: Path, plan: Plan, interruption: Interruption) -> Progress:
    tars = sum(len(slot) for slot in plan.slots)
    spoken = time.monotonic()
    pace = Pace(plan.bytes, spoken)
    told = False
    with tqdm(
        total=plan.bytes,
        unit="B",
        unit_scale=True,
        desc="tars",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        bar_format=BAR_FORMAT,
    ) as bar:
        while True:
            running = workers.running()  # before the counts: what the last one wrote is then among them
            if interruption.signal is not None and running:
                workers.ask_to_stop()
                if interruption.count > 1:  # a clip may never end, on a GPU that hangs
                    workers.kill()
                if not told:
                    name = signal.Signals(interruption.signal).name
                    words = f"{name}: {running} workers finish the clip in hand; a second one ends them at once"
                    bar.write(words, file=sys.stderr)
                told = True
            total = add_up(read_progress(submission, len(plan.slots)))
            words = f"{total.tars_done}/{tars} tars, {pace.words(total, time.monotonic())}"
            bar.n = min(total.bytes_done, plan.bytes)
            bar.set_postfix_str(words, refresh=True)
            if not running:
                return total
            if bar.disable and time.monotonic() - spoken >= LINE_SECONDS:
                spoken = time.monotonic()
                print(words, file=sys.stderr, flush=True)
            time.sleep(POLL_SECONDS)


def describe_problems(problems: Sequence[tuple[str, str]]) -> list[str]:
    """One text per problem, with the tars that have it: what is wrong with the backend is wrong with every tar."""
    tars: dict[str, list[str]] = {}
    for name, words in problems:
        tars.setdefault(words, []).append(name)
    found = []
    for words, names in tars.items():
        shown = ", ".join(name for name in names[:NAMES_SHOWN] if name)
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        found.append(f"{shown}{more}: {words}" if shown else words)
    return found


def _describe_failure(failure: Failure) -> str:
    try:
        lines = failure.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    end = "; the end of it:\n" + "\n".join(f"  {line}" for line in lines) if lines else " (empty)"
    return f"worker {failure.slot} {failure.words}; its log is {failure.log_file}{end}"
