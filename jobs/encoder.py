"""Call a backend of either kind through one interface, and attribute every exception to the clip or to the machine.

An unknown exception is the clip's fault if it is raised again when the clip is tried a second time, while nothing else calls
the backend. Otherwise the cause was another call, most likely from another thread, and the second result is as good as a
first one: calls leave no state behind.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from audio_tokenizers.base import (
    Backend,
    Codes,
    LaneShape,
    Utterance,
    Values,
    Waveform,
    hear,
    lanes_of_clips,
    lanes_of_waves,
    takes_clips,
    takes_waves,
)
from audio_tokenizers.errors import ClipError, InfrastructureError, Tar2TokensError
from jobs.fileops import is_disk_trouble
from jobs.turns import Turns

__all__ = ["Encoder", "Item", "Result"]

DEVICE_ERRORS = {"OutOfMemoryError", "AcceleratorError"}
DEVICE_WORDS = (
    "CUDA",
    "cuDNN",
    "CUBLAS",
    "NCCL",
    "MPS backend",
    "MPS device",
    "MPS framework",
    "out of memory",
    "can't allocate memory",
)
MACHINE_ERRNOS = (errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS, errno.ESTALE)
MACHINE_WORDS = (
    *("allocate memory", "failed to allocate", "bad_alloc", "bad allocation"),
    *(os.strerror(number).lower() for number in MACHINE_ERRNOS),
)
"""Lower-case messages of libraries that hide the type of the original exception."""
MOST_TRACEBACKS = 20
"""Limit of tracebacks in a worker's log: those of a corpus of bad clips would fill a disk."""
T = TypeVar("T")
log = logging.getLogger("tar2tokens")

Item = Waveform | Utterance
Result = Codes | Values


class _UnexpectedError(ClipError):
    """Wraps an exception that is not known to be the fault of either the clip or the machine."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("backend", f"{type(cause).__name__}: {cause}")
        self.cause = cause


class Encoder:
    """The backend's calls, for the device thread and the decoder threads."""

    def __init__(self, backend: Backend, waiting: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        """`waiting` makes the context manager that surrounds waits of the calling thread."""
        self._backend = backend
        self._turns = Turns(waiting)
        self._called: set[str] = set()
        self._tracebacks = 0
        self._counting = threading.Lock()

    def hear(self, wave: Waveform, sample_rate: int, text: str | None = None) -> Utterance:
        """Resample a whole clip to the ClipBackend's rate, and add its transcript."""
        backend = self._backend
        if not takes_clips(backend):
            raise InfrastructureError(f"{backend.info.name} takes no whole clips: a bug in the caller")
        try:
            return _sorted(lambda: self._in_turn("resample", lambda: hear(backend, wave, sample_rate, text)))
        except _UnexpectedError as error:
            first = error  # Python forgets `error` at the end of this block
        return self._again(lambda: hear(backend, wave, sample_rate, text), first)

    def _in_turn(self, what: str, work: Callable[[], T]) -> T:
        """Run `work`; the first call of each kind runs alone, because backends may import or initialize lazily: two threads
        that import mutually dependent modules may see one of them half initialized.
        """
        if what in self._called:
            with self._turns.beside():
                return work()
        with self._turns.alone():
            try:
                return work()
            finally:
                self._called.add(what)

    def _again(self, work: Callable[[], T], first: _UnexpectedError) -> T:
        """Try one clip a second time, alone, and return the result. Raises ClipError if it fails like the first time."""
        try:
            with self._turns.alone():
                result = _sorted(work)
        except _UnexpectedError as second:
            again, told = second.cause, str(second)
        except ClipError as refusal:
            raise InfrastructureError(
                f"the backend refuses a clip ({refusal}) at which it failed otherwise before ({first}): memory fails here, "
                "or this is a bug in it"
            ) from first
        else:
            self._tell("the backend failed at a clip in company, and not alone: its tokens count", first.cause)
            return result
        if type(again) is not type(first.cause):
            raise InfrastructureError(
                f"the backend failed twice at a clip, each time otherwise ({first}; {told}): memory fails here, or this is "
                "a bug in it"
            ) from again
        self._tell("the backend failed at a clip twice, which gets a record of kind backend", again)
        raise ClipError("backend", told)

    def _tell(self, what: str, error: Exception) -> None:
        with self._counting:
            self._tracebacks += 1
            number = self._tracebacks
        if number <= MOST_TRACEBACKS:
            last = "; the next ones are not logged" if number == MOST_TRACEBACKS else ""
            log.warning("%s%s", what, last, exc_info=error)

    def begin(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result | ClipError]]:
        """Begin to encode a batch. The returned function waits for it and returns one result per item, in order.

        After a ClipError of several items, each item is encoded alone, in calls of the same shape, to find those at fault.
        """
        try:
            finish = self._begin(items, shape)
        except ClipError as error:
            failed = error  # Python forgets `error` at the end of this block
            return lambda: self._pin(items, shape, failed)

        def outcomes() -> list[Result | ClipError]:
            try:
                return list(finish())
            except ClipError as error:
                failed = error
            return self._pin(items, shape, failed)

        return outcomes

    def _pin(self, items: Sequence[Item], shape: LaneShape | None, error: ClipError) -> list[Result | ClipError]:
        if len(items) > 1:
            return [outcome for item in items for outcome in self.begin([item], shape)()]
        if not isinstance(error, _UnexpectedError):
            return [error]
        try:
            return list(self._again(lambda: self._checked(self._call(items, shape)(), items), error))
        except ClipError as refusal:
            return [refusal]

    def _begin(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result]]:
        call = _sorted(lambda: self._in_turn("encode", lambda: self._call(items, shape)))
        return lambda: self._checked(_sorted(lambda: self._in_turn("encode", call)), items)

    @staticmethod
    def _checked(results: list[Result], items: Sequence[Item]) -> list[Result]:
        if len(results) != len(items):
            raise InfrastructureError(f"the backend gave {len(results)} results for {len(items)} waveforms: a bug in it")
        return results

    def _call(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result]]:
        backend = self._backend
        # Items of the wrong kind are dropped here; `_checked` then finds results missing.
        waves = [item for item in items if not isinstance(item, Utterance)]
        clips = [item for item in items if isinstance(item, Utterance)]
        if shape is not None and lanes_of_waves(backend):
            codes = backend.encode_lanes(waves, shape)
            return lambda: list(codes())
        if shape is not None and lanes_of_clips(backend):
            values = backend.encode_lanes(clips, shape)
            return lambda: list(values())
        results: list[Result] = []
        if takes_waves(backend):
            results += backend.encode(waves)
        elif takes_clips(backend):
            results += backend.encode_clips(clips)
        return lambda: results


def _sorted(work: Callable[[], T]) -> T:
    try:
        return work()
    except (InfrastructureError, MemoryError, ImportError):
        raise
    except ClipError as error:
        if (trouble := _machine_behind(error)) is not None:
            raise trouble from error
        raise
    except (Tar2TokensError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and is_disk_trouble(error):
            raise
        # Raised as it is, it would blame the tar's files, and the worker would try the next tar.
        raise InfrastructureError(f"the backend failed: {type(error).__name__}: {error}") from error
    except Exception as error:
        known = {cls.__name__ for cls in type(error).__mro__} & DEVICE_ERRORS
        if known or any(word in str(error) for word in DEVICE_WORDS):
            raise InfrastructureError(f"the device failed: {type(error).__name__}: {error}") from error
        if (trouble := _machine_behind(error)) is not None:
            raise trouble from error
        for each in _chain(error):
            traceback.clear_frames(each.__traceback__)  # free intermediate results before the second try
        raise _UnexpectedError(error) from error


def _machine_behind(error: BaseException) -> InfrastructureError | None:
    """The machine trouble behind `error`, by its causes or its message; None if there is none."""
    for each in _chain(error):
        refused = isinstance(each, OSError) and each.errno is not None and is_disk_trouble(each)
        of_the_system = refused or isinstance(each, MemoryError)
        if of_the_system or (each is error and any(word in str(each).lower() for word in MACHINE_WORDS)):
            return InfrastructureError(f"the backend failed: {type(error).__name__}: {error} ({each!r})")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
