"""One worker: load the backend once, then claim -> tokenize -> commit, tar after tar."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from audio_tokenizers.base import Backend
from audio_tokenizers.errors import ClaimLostError, InfrastructureError, UsageError
from audio_tokenizers.registry import get_factory
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.outputs import TarPaths, TarTask, committed_fault, read_manifest
from jobs.records import ErrorRecord, Manifest, Record
from jobs.reporting import ProgressFile
from jobs.spec import TokenizeSpec
from jobs.tar_format import ACCEPTABLE
from jobs.tokenize import TarResult, tokenize_tar

__all__ = ["StopFlag", "Wishes", "load_backend", "run_tars"]

log = logging.getLogger("tar2tokens")


class StopFlag:
    """Set by SIGINT or SIGTERM: finish the clip in hand, flush and leave."""

    def __init__(self) -> None:
        self.is_set = False
        self.signal: int | None = None
        """The first signal that came."""

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.is_set

    def _set(self, number: int, _frame: FrameType | None) -> None:
        self.is_set = True
        if self.signal is None:
            self.signal = number
            with suppress(OSError):  # not the log: a handler that interrupts a write to a stream must not write to it
                os.write(2, f"{signal.Signals(number).name}: finishing the clip in hand\n".encode())

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to the signals within this block."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._set) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def load_backend(spec: TokenizeSpec, device: str) -> Backend:
    """Load the spec's backend, and make sure that it still computes what the spec says. Raises UsageError if not."""
    factory = get_factory(spec.backend)
    found = factory.describe(spec.options, device).recipe
    for key, value in found.items():
        if spec.recipe.get(key) != value:
            raise UsageError(
                f"this worker's {key} is {value!r}, the run's spec says {spec.recipe.get(key)!r}: tokens would differ; "
                "use the environment and the weights that the run was started with"
            )
    return factory.load(spec.options, device)


@dataclass(frozen=True)
class Wishes:
    """What a command may ask of a worker beside the spec; none of it decides the value of a token."""

    retry_errors: bool = False
    """Try clips again that have error records."""
    force: bool = False
    """Forget the tar's output and begin again."""
    allow_missing_end: bool = False
    """Accept a tar that lacks only its end marker."""


def run_tars(
    tasks: Sequence[TarTask],
    spec: TokenizeSpec,
    output_dir: Path,
    *,
    device: str,
    stop: StopFlag,
    reports: ProgressFile,
    wishes: Wishes = Wishes(),
) -> None:
    """Tokenize tars one after another; what goes wrong with one is in `reports` and does not stop the next.

    The backend is loaded when the first tar needs it. Raises InfrastructureError, which ends the worker: the next tar
    would meet the same machine.
    """
    worker = _Worker(spec, output_dir, device, stop, reports, wishes)
    progress = reports.progress
    for task in tasks:
        if stop():
            break
        try:
            problem = worker.work_on(task)
        except (ClaimLostError, UsageError) as error:
            problem = str(error)
        except InfrastructureError as error:
            progress.problems.append((task.name, str(error)))
            reports.publish(now=True)
            raise
        except OSError as error:
            problem = f"{error.filename or task.tar}: {error.strerror or error}"
        if problem is not None:
            progress.problems.append((task.name, problem))
            log.error("%s: %s", task.name, problem)
        elif not stop():
            progress.tars_done += 1
        worker.leave(task)
    progress.finished = True
    reports.publish(now=True)


class _Worker:
    """The backend, once loaded, and the counts."""

    def __init__(
        self, spec: TokenizeSpec, output_dir: Path, device: str, stop: StopFlag, reports: ProgressFile, wishes: Wishes
    ) -> None:
        self._spec = spec
        self._output_dir = output_dir
        self._device = device
        self._stop = stop
        self._reports = reports
        self._wishes = wishes
        self._backend: Backend | None = None
        self._bytes_before = 0

    def work_on(self, task: TarTask) -> str | None:
        """Bring one tar as far as it goes; return what is wrong with it, if anything."""
        paths = TarPaths(self._output_dir, task.name)
        if self._wishes.force:
            Ledger.erase(paths, FileOps())
        done = nothing_to_do(paths, Path(task.tar), retry_errors=self._wishes.retry_errors)
        if done is not None:
            log.info("%s: %s", task.name, done)
            return None
        if self._backend is None:
            self._backend = self._load()
        try:
            result = tokenize_tar(
                Path(task.tar),
                paths,
                self._spec,
                self._backend,
                stop=self._stop,
                on_progress=self._count,
                retry_errors=self._wishes.retry_errors,
                allow_missing_end=self._wishes.allow_missing_end,
            )
        except ClaimLostError as lost:
            if nothing_to_do(paths, Path(task.tar), retry_errors=False) is None:
                raise
            log.info("%s", lost)  # to a worker that has committed it
            return None
        return _tell(task, result)

    def _load(self) -> Backend:
        try:
            return load_backend(self._spec, self._device)
        except UsageError as error:  # what is wrong with the backend here is wrong for every tar
            raise InfrastructureError(str(error)) from error

    def leave(self, task: TarTask) -> None:
        """Count the tar's bytes as used, however it ended."""
        self._bytes_before += task.bytes
        self._reports.progress.bytes_done = self._bytes_before
        self._reports.publish(now=True)

    def _count(self, record: Record, used: int) -> None:
        progress = self._reports.progress
        progress.clips += 1
        if isinstance(record, ErrorRecord):
            progress.errors += 1
            log.info("%s: %s: %s", record.audio_file, record.error_kind, record.error)
        else:
            progress.audio_seconds += record.num_samples / record.sample_rate
        progress.bytes_done = self._bytes_before + used
        self._reports.publish()


def nothing_to_do(paths: TarPaths, tar: Path, *, retry_errors: bool) -> str | None:
    """Why a tar needs no work, or None. Raises UsageError where a file that is not ours stands in the way."""
    manifest = read_manifest(paths.manifest)
    try:
        fault = committed_fault(paths, tar, manifest)
    except FileNotFoundError:
        return None
    if fault is not None:
        raise UsageError(fault)
    if not retry_errors:
        return "already committed"
    return None if manifest is not None and manifest.errors else "already committed, no errors to retry"


def _tell(task: TarTask, result: TarResult) -> str | None:
    """Log how a tar ended; return what is wrong with it, if anything."""
    manifest = result.manifest
    if result.outcome == "damaged":
        return broken_tar(manifest)
    errors = sum(manifest.errors.values())
    notes = f"{manifest.clips} clips, {manifest.audio_seconds / 3600:.3f} audio-h, {errors} errors"
    if manifest.clips == 0 and result.outcome == "committed":
        notes += f"; no clips in it (other members: {manifest.ignored_members or 'none'}): is --extensions right?"
    if manifest.orphan_sidecars:
        notes += f"; {manifest.orphan_sidecars} sidecars have no audio beside them"
    if manifest.sidecar_faults:
        notes += f"; {manifest.sidecar_faults} sidecars could not be read"
    log.info("%s: %s: %s", task.name, result.outcome, notes)
    return None


def broken_tar(manifest: Manifest) -> str:
    """One message for a tar that does not end properly."""
    if manifest.verdict in ACCEPTABLE:
        advice = "if it is known to be whole, accept it with --allow-missing-end"
    elif manifest.verdict == "not_a_tar":
        advice = "check the list"
    else:
        advice = "copy it again from its source"
    return (
        f"{manifest.tar_file}: {manifest.verdict}: {manifest.verdict_detail}. {manifest.clips} clips before that are kept "
        f"in the partial; {advice}"
    )
