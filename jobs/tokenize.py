"""Tars -> committed files, through one conveyor: the end of one tar shares the device's calls with the start of the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType

from audio_tokenizers.base import Backend
from jobs.activities import Activities
from jobs.conveyor import Conveyor, Feeding
from jobs.ledger import Ledger
from jobs.progress import DeviceSeconds
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths
from jobs.tar_source import TarSource
from jobs.tar_task import TarOptions
from jobs.tar_work import OnEncoded, OnKept, OnProgress, TarResult, TarWork

__all__ = ["Ended", "Tokenizer", "tokenize_tar"]

MOST_TARS = 3
"""Tars that a worker holds at once. All but the last have been read to their end and wait for their last clips."""
LOOK_SECONDS = 0.2
"""How long a stop may go unnoticed while nothing else happens."""
PACE_SECONDS = 0.02
"""Lines are written a few at a time: if threads share a core, each switch costs time and caches."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A tar whose attempt has ended, one way or the other."""

    work: TarWork
    outcome: TarResult | Exception

    def result(self) -> TarResult:
        """Its result. Raises as `TarWork.start` does."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Tokenizer:
    """A loaded backend with its threads, and the tars in hand. A context manager."""

    def __init__(
        self,
        spec: TokenizeSpec,
        backend: Backend,
        feeding: Feeding = Feeding(),
        *,
        stop: Callable[[], bool] = lambda: False,
        activities: Activities | None = None,
    ) -> None:
        self._spec = spec
        self._conveyor = Conveyor(spec, backend, feeding, activities)
        self._stop = stop
        self._works: list[TarWork] = []
        self._expects_more = True
        self._told = DeviceSeconds()

    def __enter__(self) -> Tokenizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for work in self._works:  # only if this block ends by an exception
            work.close()
        self._conveyor.close()

    @property
    def device_time(self) -> DeviceSeconds:
        """How the device has spent its time."""
        return self._conveyor.device_time

    def _tell_device_time(self) -> DeviceSeconds:
        """The part of it since the last call, when another tar ended."""
        now = self.device_time
        new, self._told = now - self._told, now
        return new

    @property
    def can_begin(self) -> bool:
        """Whether there is room for another tar."""
        alone = any(work.options.one_at_a_time for work in self._works)
        return not alone and len(self._works) < MOST_TARS and all(work.read_to_end for work in self._works)

    def begin(
        self,
        tar: TarSource,
        paths: TarPaths,
        options: TarOptions = TarOptions(),
        *,
        on_progress: OnProgress = lambda _record, _bytes: None,
        on_encoded: OnEncoded = lambda _seconds, _bytes: None,
        on_kept: OnKept = lambda _kept: None,
        take: Callable[..., Ledger] = Ledger.take,
    ) -> TarWork:
        """Begin with a tar where its partial ends. Raises as `TarWork.start` does."""
        while options.one_at_a_time and not self._conveyor.idle:  # clips of a tar that has failed may be the killers, too
            self._conveyor.step(LOOK_SECONDS)
        work = TarWork(
            tar,
            paths,
            self._spec,
            self._conveyor,
            options,
            on_progress=on_progress,
            on_encoded=on_encoded,
            on_kept=on_kept,
            take=take,
            device_seconds=self._tell_device_time,
        )
        work.start()
        self._works.append(work)
        return work

    def wait(self, *, more: bool = False) -> list[Ended]:
        """Work until a tar has ended, or another can begin if `more` are to come, or `stop` says so.

        On a stop the device finishes what it has in hand, and all tars stay where they are then.
        """
        while self._works:
            if self._stop():
                return self._end_all()
            reading = any(not work.read_to_end for work in self._works)
            alone = any(work.options.one_at_a_time for work in self._works)
            self._expect(more=not alone and (reading or (more and self.can_begin)))
            try:
                self._conveyor.step(LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001 (the tar in hand tells it)
                return self._fail(error)
            if ended := self._advance():
                return ended
            if more and self.can_begin:
                return []
            if reading and not alone:
                time.sleep(PACE_SECONDS)
        return []

    def _expect(self, *, more: bool) -> None:
        if more != self._expects_more:
            self._expects_more = more
            self._conveyor.expect(more=more)

    def _advance(self) -> list[Ended]:
        ended: list[Ended] = []
        for position, work in enumerate(list(self._works)):
            try:
                result = work.advance(leads=position == len(ended))
            except Exception as error:  # noqa: BLE001 (told by `Ended.result`)
                ended.append(Ended(work, error))
            else:
                if result is not None:
                    ended.append(Ended(work, result))
        self._forget(ended)
        return ended

    def _end_all(self) -> list[Ended]:
        self._conveyor.halt()
        try:
            self._conveyor.finish_calls()
        except Exception as error:  # noqa: BLE001
            return self._fail(error)
        ended = self._advance()
        return ended + self._leave_all()

    def _leave_all(self) -> list[Ended]:
        ended: list[Ended] = []
        for work in self._works:
            try:
                ended.append(Ended(work, work.leave()))
            except Exception as error:  # noqa: BLE001
                ended.append(Ended(work, error))
        self._works.clear()
        return ended

    def _fail(self, error: Exception) -> list[Ended]:
        """After trouble with the device: write what came before, report it for the first tar left, and end the others."""
        ended = self._advance()
        if not self._works:  # nothing of it is lacking; a tar to come will tell
            self._conveyor.fail(error)
            return ended
        first = self._works.pop(0)
        ended += self._leave_all()
        try:
            first.fail(error)
        except Exception as told:  # noqa: BLE001 (in the tar's words)
            ended.append(Ended(first, told))
        return ended

    def _forget(self, ended: list[Ended]) -> None:
        for one in ended:
            self._works.remove(one.work)


def tokenize_tar(
    tar: TarSource,
    paths: TarPaths,
    spec: TokenizeSpec,
    backend: Backend,
    *,
    feeding: Feeding = Feeding(),
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = lambda _record, _bytes: None,
    on_encoded: OnEncoded = lambda _seconds, _bytes: None,
    on_kept: OnKept = lambda _kept: None,
    retry_errors: bool = False,
    allow_missing_end: bool = False,
    allow_joined: bool = False,
    crash_clips: Collection[int] = (),
    one_at_a_time: bool = False,
    take: Callable[..., Ledger] = Ledger.take,
) -> TarResult:
    """Tokenize one tar from where its partial ends, and commit it if the tar ends properly.

    Raises as `TarWork.start` does.
    """
    options = TarOptions(
        retry_errors=retry_errors,
        allow_missing_end=allow_missing_end,
        allow_joined=allow_joined,
        crash_clips=crash_clips,
        one_at_a_time=one_at_a_time,
    )
    with Tokenizer(spec, backend, feeding, stop=stop) as tokenizer:
        tokenizer.begin(tar, paths, options, on_progress=on_progress, on_encoded=on_encoded, on_kept=on_kept, take=take)
        (ended,) = tokenizer.wait()
        return ended.result()
