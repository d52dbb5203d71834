"""The only file that talks to submitit: starts workers on this machine, and stops them."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from hpc.plan import Plan

__all__ = ["Failure", "LocalWorkers", "Placement", "check_path", "place_workers", "progress_file", "run_slot", "start_local"]

NO_TIME_LIMIT_MIN = 60 * 24 * 365
ASK_AGAIN_SECONDS = 1.0
SUBMITIT_TAGS = ("%j", "%t", "%A", "%a")
"""What submitit replaces anywhere in a path, with no way to quote it."""


class Placement(msgspec.Struct, frozen=True):
    """Where one worker runs."""

    gpu: str | None
    """Its CUDA_VISIBLE_DEVICES, or None for the CPU."""
    threads: int
    """Threads that it may compute with."""


class Failure(msgspec.Struct, frozen=True):
    """A worker that did not return: it was killed, or it raised what no worker should raise."""

    slot: int
    words: str
    log_file: Path


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

    stop = StopFlag()
    with stop.on_signals():
        setup_logging(verbose=False)
        plan = msgspec.json.decode(Path(plan_file).read_bytes(), type=Plan)
        tasks = plan.slots[slot]
        reports = ProgressFile(progress_file(Path(plan_file).parent, slot), total_bytes=sum(task.bytes for task in tasks))
        reports.publish(now=True)  # from here on we answer to signals
        try:
            spec = read_spec(Path(output_dir))
            if spec is None or spec.fingerprint != plan.fingerprint:
                raise UsageError(f"{output_dir}: its spec is not the one that {plan_file} was made for")
            run_tars(
                tasks,
                msgspec.structs.replace(spec, options=plan.options),
                Path(output_dir),
                device="cpu" if placement.gpu is None else "cuda:0",
                stop=stop,
                reports=reports,
                wishes=Wishes(retry_errors=plan.retry_errors, allow_missing_end=plan.allow_missing_end),
            )
        except Tar2TokensError as error:
            logging.getLogger("tar2tokens").error("%s", error)
            if not isinstance(error, InfrastructureError):  # which run_tars has reported
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
        self._asked = -ASK_AGAIN_SECONDS

    def running(self) -> int:
        """How many have not ended."""
        return sum(not job.done() for job in self._jobs)

    def ask_to_stop(self) -> None:
        """Have each finish the clip in hand, flush and leave. To be called until none is running.

        Once is not enough: submitit ignores SIGTERM in a worker that has not come to install its own handler yet.
        """
        if time.monotonic() - self._asked < ASK_AGAIN_SECONDS:
            return
        self._asked = time.monotonic()
        for job in self._jobs:
            if not job.done():
                job._process.send_signal(signal.SIGTERM)  # noqa: SLF001 (job.cancel() would kill after one second)

    def kill(self) -> None:
        """End the workers at once. Their partials stay good, and their claims are a dead process's."""
        for job in self._jobs:
            if not job.done():
                controller = job._process.pid  # noqa: SLF001 (submitit has a process of its own around each worker)
                with suppress(OSError):
                    for pid in Path(f"/proc/{controller}/task/{controller}/children").read_text(encoding="ascii").split():
                        os.kill(int(pid), signal.SIGKILL)

    def stop_all(self) -> None:
        """Ask until all have ended."""
        while self.running():
            self.ask_to_stop()
            time.sleep(0.05)

    def failures(self) -> list[Failure]:
        """Those that have ended without a result, or with an exception for one."""
        ends = [(slot, _how_it_failed(job.paths.result_pickle), job.paths.stderr) for slot, job in enumerate(self._jobs)]
        return [Failure(slot, words, Path(log_file)) for slot, words, log_file in ends if words is not None]


def _how_it_failed(result_pickle: Path) -> str | None:
    try:
        outcome, result = pickle.loads(result_pickle.read_bytes())  # noqa: S301 (this user's own file)
    except (OSError, EOFError, pickle.UnpicklingError):
        return "was killed"
    return None if outcome == "success" else f"crashed: {str(result).strip().splitlines()[-1]}"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Children started here inherit that SIGINT is blocked. A terminal sends Ctrl-C to all of them, and it is for this
    process alone: it asks them to stop in its own way. Blocked, and not ignored, so that here none is lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _importable() -> Iterator[None]:
    """Children started here find this package, also in a checkout that nobody has installed."""
    root = str(Path(__file__).resolve().parent.parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{root}{os.pathsep}{before}" if before else root
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def check_path(output_dir: Path) -> None:
    """Raise UsageError if submitit would take a part of the path for its own."""
    tags = [tag for tag in SUBMITIT_TAGS if tag in str(output_dir)]
    if tags:
        raise UsageError(f"--output-dir {output_dir}: {tags[0]} in a path has a meaning to submitit: choose another folder")


def start_local(
    output_dir: Path,
    submission: Path,
    plan_file: Path,
    placements: Sequence[Placement],
    stop: Callable[[], bool] = lambda: False,
) -> LocalWorkers:
    """Start one process per slot of the plan, through submitit's local executor, until `stop` says otherwise."""
    import submitit

    executor = submitit.LocalExecutor(submission / "logs")
    executor.update_parameters(timeout_min=NO_TIME_LIMIT_MIN, signal_delay_s=0, stderr_to_stdout=False)
    jobs: list[Any] = []
    try:
        for slot, placement in enumerate(placements):
            if stop():
                break
            with _deaf_to_interrupts(), _importable():
                jobs.append(executor.submit(run_slot, str(output_dir), str(plan_file), slot, placement))
    except BaseException:
        LocalWorkers(jobs).stop_all()
        raise
    return LocalWorkers(jobs)


def place_workers(gpus: Sequence[str], workers: int | None, procs_per_gpu: int, cores: int, tars: int) -> list[Placement]:
    """One worker per GPU, times `procs_per_gpu`; on CPUs `workers`, or as many as there are cores; never more than tars.

    They share the cores. With fewer workers than places, each GPU gets one before any gets two.
    """
    places: list[str | None] = [gpu for _ in range(procs_per_gpu) for gpu in gpus] or [None] * (workers or cores)
    places = places[: min(workers or len(places), tars)]
    return [Placement(gpu, max(1, cores // len(places))) for gpu in places]
