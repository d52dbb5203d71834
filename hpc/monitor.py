"""Follows the workers of a submission on this machine: live progress, a clean stop, and what went wrong."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec
from tqdm import tqdm

from hpc.cluster import LocalWorkers, progress_file
from hpc.plan import Plan
from jobs.reporting import Progress, clock_time, describe_rate, eta_seconds

__all__ = ["add_up", "follow"]

POLL_SECONDS = 0.2
LINE_SECONDS = 10.0


def add_up(parts: list[Progress]) -> Progress:
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


def follow(workers: LocalWorkers, submission: Path, plan: Plan) -> int:
    """Show progress until every worker has ended. Returns the exit code: 0, 1 if a tar is not done, 130 if interrupted."""
    interrupted: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        interrupted.append(number)
        tqdm.write(f"{signal.Signals(number).name}: workers finish the clip in hand", file=sys.stderr)
        workers.ask_to_stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        total = _watch(workers, submission, plan)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for name, problem in total.problems:
        print(f"error: {name + ': ' if name else ''}{problem}", file=sys.stderr)
    deaths = workers.failures()
    for slot, log_file in deaths:
        print(f"error: worker {slot} died; the end of its log {log_file}:\n{_tail(log_file)}", file=sys.stderr)
    if interrupted:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 128 + interrupted[0]
    return 1 if total.problems or deaths else 0


def _watch(workers: LocalWorkers, submission: Path, plan: Plan) -> Progress:
    tars = sum(len(slot) for slot in plan.slots)
    started = time.monotonic()
    spoken = started
    bytes_before: int | None = None
    with tqdm(
        total=plan.bytes, unit="B", unit_scale=True, desc="tars", disable=not sys.stderr.isatty(), dynamic_ncols=True
    ) as bar:
        while True:
            running = workers.running()
            total = add_up(read_progress(submission, len(plan.slots)))
            wall = time.monotonic() - started
            if bytes_before is None and total.clips:
                bytes_before = total.bytes_done  # a resumed tar begins at where its partial ends
            words = f"{total.tars_done}/{tars} tars, {total.clips} clips, {total.errors} errors, "
            words += describe_rate(total.audio_seconds, wall)
            bar.n = min(total.bytes_done, plan.bytes)
            bar.set_postfix_str(words, refresh=True)
            if not running:
                break
            if bar.disable and time.monotonic() - spoken >= LINE_SECONDS:
                spoken = time.monotonic()
                left = eta_seconds(bytes_before or 0, total.bytes_done, plan.bytes, wall)
                print(f"{words}, ETA {clock_time(left)}", file=sys.stderr, flush=True)
            time.sleep(POLL_SECONDS)
    print(words)
    return total


def _tail(path: str, lines: int = 5) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join("  " + line for line in text.splitlines()[-lines:])
