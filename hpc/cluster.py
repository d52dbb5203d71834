"""The only file that talks to submitit: starts workers on this machine, and stops them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from hpc.plan import Plan

__all__ = ["LocalWorkers", "Placement", "run_slot", "start_local"]

NO_TIME_LIMIT_MIN = 60 * 24 * 365
GRACE_SECONDS = 600


class Placement(msgspec.Struct, frozen=True):
    """Where one worker runs."""

    gpu: str | None
    """Its CUDA_VISIBLE_DEVICES, or None for the CPU."""
    threads: int
    """Threads that it may compute with."""


def run_slot(output_dir: str, plan_file: str, slot: int, placement: Placement) -> int:
    """A task's whole life; submitit calls it in a process of its own. Returns the worker's exit code.

    It lives in hpc, which every task can import, and not in a backend's package (submitit unpickles it by name).
    """
    if placement.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = placement.gpu
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(placement.threads)

    from jobs.commands import setup_logging
    from jobs.reporting import ProgressFile
    from jobs.spec import read_spec
    from jobs.worker import StopFlag, Wishes, run_tars

    setup_logging(verbose=False)
    plan = msgspec.json.decode(Path(plan_file).read_bytes(), type=Plan)
    spec = read_spec(Path(output_dir))
    reports = ProgressFile(progress_file(Path(plan_file).parent, slot))
    log = logging.getLogger("tar2tokens")
    try:
        if spec is None or spec.fingerprint != plan.fingerprint:
            raise UsageError(f"{output_dir}: its spec is not the one that {plan_file} was made for")
        stop = StopFlag()
        with stop.on_signals():
            run_tars(
                plan.slots[slot],
                spec,
                Path(output_dir),
                device="cpu" if placement.gpu is None else "cuda:0",
                stop=stop,
                reports=reports,
                wishes=Wishes(retry_errors=plan.retry_errors, allow_missing_end=plan.allow_missing_end),
            )
    except Tar2TokensError as error:
        log.error("%s", error)
        if not isinstance(error, InfrastructureError):
            reports.progress.problems.append(("", str(error)))
            reports.publish(now=True)
        return error.exit_code
    return 1 if reports.progress.problems else 0


def progress_file(submission: Path, slot: int) -> Path:
    """Where one worker publishes its counts."""
    return submission / f"progress-{slot:04}.json"


class LocalWorkers:
    """Workers of one submission on this machine."""

    def __init__(self, jobs: Sequence[Any]) -> None:
        self._jobs = jobs

    def running(self) -> int:
        """How many have not ended."""
        return sum(not job.done() for job in self._jobs)

    def ask_to_stop(self) -> None:
        """Have each finish the clip in hand, flush and leave."""
        for job in self._jobs:
            if not job.done():
                job._process.send_signal(signal.SIGTERM)  # noqa: SLF001 (job.cancel() would kill after one second)

    def failures(self) -> list[tuple[int, str]]:
        """(slot, log file) of each worker that died rather than ended."""
        return [(slot, str(job.paths.stderr)) for slot, job in enumerate(self._jobs) if not job.paths.result_pickle.exists()]


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Children started here inherit that Ctrl-C is not for them: it would have submitit kill its tasks after a second."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_local(output_dir: Path, submission: Path, plan_file: Path, placements: Sequence[Placement]) -> LocalWorkers:
    """Start one process per slot of the plan, through submitit's local executor."""
    import submitit

    root = str(Path(__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else root  # a checkout that nobody has installed
    executor = submitit.LocalExecutor(submission / "logs", python=None)
    executor.update_parameters(timeout_min=NO_TIME_LIMIT_MIN, signal_delay_s=0, stderr_to_stdout=False)
    with _ignoring_interrupts():
        jobs = [
            executor.submit(run_slot, str(output_dir), str(plan_file), slot, placement)
            for slot, placement in enumerate(placements)
        ]
    return LocalWorkers(jobs)


def place_workers(gpus: Sequence[str], workers: int | None, procs_per_gpu: int, cores: int) -> list[Placement]:
    """One worker per GPU, times `procs_per_gpu`; on CPUs `workers`, or as many as there are cores, sharing the cores."""
    if gpus:
        places = [gpu for gpu in gpus for _ in range(procs_per_gpu)][:workers]
        return [Placement(gpu, max(1, cores // len(places))) for gpu in places]
    count = workers or cores
    return [Placement(None, max(1, cores // count)) for _ in range(count)]
