"""One worker: load the backend once, then claim, tokenize and commit tars. Each is read while the previous one ends."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from audio_tokenizers.base import Backend
from audio_tokenizers.errors import ClaimLostError, InfrastructureError, UsageError
from audio_tokenizers.registry import get_factory
from audio_tokenizers.shared.extras import backend_packages
from audio_tokenizers.shared.wording import shown
from jobs.activities import Activities
from jobs.conveyor import Feeding
from jobs.devices import device_name
from jobs.fileops import FileOps, StorageError, describe_error, output_files, own_files
from jobs.ledger import Ledger
from jobs.memory_guard import LESS_MEMORY
from jobs.model_hashes import ModelHashes
from jobs.progress import UNENDED, ProgressFile, Try
from jobs.signals import StopFlag
from jobs.spec import TokenizeSpec
from jobs.tar_format import ACCEPTABLE
from jobs.tar_paths import TarPaths, UntrustedFileError, read_manifest
from jobs.tar_report import describe_broken_tar, describe_tar
from jobs.tar_source import tar_source
from jobs.tar_task import InputIdentity, TarOptions, TarTask
from jobs.tar_work import TarResult, TarWork, WrittenMeanwhileError
from jobs.tokenize import Tokenizer
from jobs.worker_report import TarInHand, WorkerReport

__all__ = ["Crew", "Wishes", "load_backend", "run_tars"]

log = logging.getLogger("tar2tokens")


def load_backend(spec: TokenizeSpec, device: str) -> Backend:
    """Load the spec's backend. Raises UsageError if its recipe is not the spec's."""
    factory = get_factory(spec.backend)
    with backend_packages(factory.name):
        found = factory.describe(spec.options, device).recipe
    for key, value in found.items():
        if spec.recipe.get(key) != value:
            raise UsageError(
                f"this worker's {key} is {shown(value)}, the run's spec says {shown(spec.recipe.get(key))}: tokens would "
                "differ; use the environment and the weights that the run was started with"
            )
    with backend_packages(factory.name):
        return factory.load(spec.options, device)


@dataclass(frozen=True)
class Wishes:
    """Options of a worker beside the spec. None of them affects tokens."""

    retry_errors: bool = False
    """Try clips with error records again."""
    force: bool = False
    """Remove the tar's output and begin again."""
    allow_missing_end: bool = False
    """Accept a tar that lacks only its end marker."""
    allow_joined: bool = False
    """Read on if another tar begins after the end of the first."""
    allow_pipe: bool = False
    """Run commands that a list has in place of tars."""


@dataclass(frozen=True)
class Crew:
    """What a worker knows about the others: its task, which tasks have ended, and which tars it may help with."""

    task: str = ""
    """Its task's name in claims; empty for a worker that was started by hand."""
    gone: Callable[[str], bool] = lambda _task: False
    """Whether a task is known to have ended."""
    others_tars: Sequence[TarTask] = ()


def run_tars(
    tasks: Sequence[TarTask],
    spec: TokenizeSpec,
    output_dir: Path,
    *,
    device: str,
    stop: StopFlag,
    reports: ProgressFile,
    wishes: Wishes = Wishes(),
    crew: Crew = Crew(),
    feeding: Feeding = Feeding(),
    activities: Activities | None = None,
) -> None:
    """Tokenize tars in order, then unclaimed tars of other workers. Trouble with one tar goes into `reports` and does not
    stop the next.

    The backend is loaded when the first tar needs it. `activities` shows what is going on to other holders of the object.
    Raises InfrastructureError, which ends the worker: the next tar would meet the same machine.
    """
    activities = activities or Activities()
    with _Worker(spec, output_dir, device, stop, reports, wishes, crew, feeding, activities) as worker:
        worker.work_on(tasks)
        for task in crew.others_tars:  # one by one, so that idle workers can take the rest
            if not stop() and worker.may_help(task):
                worker.work_on([task])
    if stop.shortage:
        reports.progress.tell_of_shortage([task.name for task in tasks], stop.shortage)
        log.warning("%s: what is done is flushed, and the worker yields; %s", stop.shortage, LESS_MEMORY)
    reports.progress.finished = True
    reports.publish(now=True)


class _Worker:
    """The backend, once loaded, and the tars in hand."""

    def __init__(
        self,
        spec: TokenizeSpec,
        output_dir: Path,
        device: str,
        stop: StopFlag,
        reports: ProgressFile,
        wishes: Wishes,
        crew: Crew,
        feeding: Feeding,
        activities: Activities,
    ) -> None:
        self._spec = spec
        self._output_dir = output_dir
        self._device = device
        self._stop = stop
        self._report = WorkerReport(reports)
        self._wishes = wishes
        self._crew = crew
        self._feeding = feeding
        self._activities = activities
        self._threads = ExitStack()
        self._tokenizer: Tokenizer | None = None
        self._open: dict[TarWork, TarInHand] = {}

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.__exit__(kind, error, at)
        if self._open:  # trouble with another tar has ended the worker
            self._report.yielded(self._open.values())

    def work_on(self, tasks: Sequence[TarTask]) -> None:
        """Work on tars until each has ended, and report how. Raises InfrastructureError."""
        left = deque(tasks)
        while (left and not self._stop()) or self._open:
            if left and not self._stop() and self._may_begin(left[0]):
                self._begin(left.popleft())
                continue
            assert self._tokenizer is not None, "a tar in hand is a tokenizer's"
            more = bool(left) and not left[0].one_at_a_time
            trouble: Exception | None = None
            for ended in self._tokenizer.wait(more=more):
                one = self._open.pop(ended.work)
                try:
                    self._settle(one, ended.result)
                except Exception as error:  # noqa: BLE001 (raised when all tars that ended with it are reported)
                    trouble = trouble or error
            if trouble is not None:
                raise trouble

    def may_help(self, task: TarTask) -> bool:
        """Whether another worker's tar can be helped with: it is unclaimed, not committed, and not known to be damaged.

        Reading a damaged tar again would end the same, and a worker that is stopped meanwhile would leave it undecided.
        """
        paths = TarPaths(self._output_dir, task.name)
        if paths.committed.exists() or paths.claim.exists():
            return False
        try:
            known = read_manifest(paths.attempt)
            if known is None or not known.is_damage or (self._wishes.allow_missing_end and known.verdict in ACCEPTABLE):
                return True
            return not InputIdentity.of(tar_source(task.tar)).matches(known)
        except (UsageError, OSError):
            return True  # the attempt itself reports what is wrong

    def _may_begin(self, task: TarTask) -> bool:
        if not self._open:
            return True
        assert self._tokenizer is not None, "a tar in hand is a tokenizer's"
        return self._tokenizer.can_begin and not task.one_at_a_time

    def _begin(self, task: TarTask) -> None:
        """Begin with a tar, and report whatever prevents it."""
        one = self._report.begin(task)

        def start() -> TarResult | None:
            work = self._start(one)
            if work is not None:
                self._open[work] = one
            return None

        self._settle(one, start)

    def _start(self, one: TarInHand) -> TarWork | None:
        """Begin with the tar's work; None if there is nothing to do."""
        task = one.task
        paths = TarPaths(self._output_dir, task.name)
        retry_errors = self._wishes.retry_errors or task.retry_errors
        with (
            self._activities.doing("read", tar=task.name, about=task.tar),
            output_files(task.name),
        ):  # its size, where committed
            if self._wishes.force:
                Ledger.erase(paths, FileOps())
            done = nothing_to_do(paths, task.tar, retry_errors=retry_errors)
        if done is not None:
            one.attempt.outcome = "committed"
            log.info("%s: %s", task.name, done)
            return None
        source = tar_source(task.tar, allow_pipe=self._wishes.allow_pipe)
        if self._tokenizer is None:
            self._report.publish(now=True)
            backend = self._load(task.name)
            tokenizer = Tokenizer(self._spec, backend, self._feeding, stop=self._stop, activities=self._activities)
            self._tokenizer = self._threads.enter_context(tokenizer)
            self._report.device_time = lambda: tokenizer.device_time
        self._report.working(one)
        return self._tokenizer.begin(
            source,
            paths,
            TarOptions(
                retry_errors=retry_errors,
                allow_missing_end=self._wishes.allow_missing_end,
                allow_joined=self._wishes.allow_joined,
                crash_clips=task.crash_clips,
                timed_out=task.timed_out,
                one_at_a_time=task.one_at_a_time,
            ),
            on_progress=lambda record, _used: self._report.line(one, record),
            on_encoded=lambda seconds, used: self._report.encoded(one, seconds, used),
            on_kept=lambda kept: self._report.kept(one, kept),
            take=functools.partial(
                Ledger.take, task=self._crew.task, gone=self._crew.gone, device=device_name(self._device)
            ),
        )

    def _settle(self, one: TarInHand, outcome: Callable[[], TarResult | None]) -> None:
        """Report what became of a tar. Raises what ends the worker."""
        attempt, task = one.attempt, one.task
        try:
            try:
                result = outcome()
            except ClaimLostError as error:
                self._lose(one, error)
                result = None
            if result is not None:
                self._note_end(attempt, task, result)
        except InfrastructureError as error:
            attempt.storage = error.trouble if isinstance(error, StorageError) else None
            self._report.machine_trouble(one, str(error))
            raise
        except (UsageError, OSError) as error:
            attempt.outcome, attempt.problem = "failed", describe_error(error, task.tar)
            attempt.untrusted = isinstance(error, UntrustedFileError)
            if isinstance(error, WrittenMeanwhileError):
                attempt.gained, attempt.kept = 0, None  # a tar that is always written to must not be retried forever
        except Exception as error:  # machine trouble in a library's terms, or a bug: unreported it would recur forever
            self._report.machine_trouble(one, f"{type(error).__name__}: {error}")
            raise
        if attempt.outcome not in UNENDED:
            self._report.ended(one)

    def _note_end(self, attempt: Try, task: TarTask, result: TarResult) -> None:
        attempt.outcome = result.outcome
        if result.outcome == "damaged":
            attempt.problem = describe_broken_tar(result.manifest)
        else:
            notes = describe_tar(result.manifest, committed=result.outcome == "committed", on_gpu=self._device != "cpu")
            log.info("%s: %s: %s", task.name, result.outcome, notes)
        if result.outcome == "yielded" and self._stop.shortage:
            attempt.short_of_memory, attempt.problem = True, self._stop.shortage

    def _lose(self, one: TarInHand, error: ClaimLostError) -> None:
        """Another worker has the tar, or has committed it, which is just as good."""
        with output_files(one.task.name):
            done = nothing_to_do(TarPaths(self._output_dir, one.task.name), one.task.tar, retry_errors=False)
        if done is None:
            one.attempt.outcome, one.attempt.problem = "left_alone", str(error)
            log.warning("%s", error)
        else:
            one.attempt.outcome = "committed"
            log.info("%s", error)

    def _load(self, tar: str) -> Backend:
        hashes = ModelHashes(self._output_dir)
        try:
            with self._activities.doing("load", tar=tar), hashes.in_use(), own_files("the backend's files"):
                return load_backend(self._spec, self._device)
        except UsageError as error:  # a backend that fails here fails for every tar
            raise InfrastructureError(str(error)) from error
        finally:
            hashes.save()


def nothing_to_do(paths: TarPaths, tar: str, *, retry_errors: bool) -> str | None:
    """Why a tar needs no work, or None. Raises UntrustedFileError if a foreign file stands in the way."""
    try:
        manifest, fault = paths.read_committed(tar)
    except FileNotFoundError:
        return None
    if fault is not None:
        raise UntrustedFileError(fault)
    if retry_errors and manifest is not None and manifest.errors:
        return None
    Ledger.tidy(paths, FileOps())  # the worker that committed it may have died right after
    return "already committed, no errors to retry" if retry_errors else "already committed"
