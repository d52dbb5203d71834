"""A backend of either kind behind one call, with every exception sorted into the clip's fault or the machine's."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from audio_tokenizers.base import (
    Audio,
    Backend,
    ClipBackend,
    Codes,
    FrameBackend,
    LaneShape,
    LanesOfWaves,
    Utterance,
    Values,
    Waveform,
)
from audio_tokenizers.errors import ClipError, InfrastructureError, Tar2TokensError
from jobs.fileops import is_disk_trouble

__all__ = ["Encoder", "Item", "Result"]

DEVICE_ERRORS = {"OutOfMemoryError", "AcceleratorError"}
DEVICE_WORDS = ("CUDA", "cuDNN", "CUBLAS", "NCCL", "out of memory", "can't allocate memory")
MACHINE_ERRNOS = (errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS, errno.ESTALE)
MACHINE_WORDS = (
    *("allocate memory", "failed to allocate", "bad_alloc", "bad allocation"),
    *(os.strerror(number).lower() for number in MACHINE_ERRNOS),
)
"""What libraries say, in small letters, whose exceptions have lost their kind on the way."""
T = TypeVar("T")

Item = Waveform | Utterance
Result = Codes | Values


class Encoder:
    """What the device thread calls."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._first = threading.Lock()
        self._called: set[str] = set()

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """A whole clip at a ClipBackend's rate."""
        backend = cast("ClipBackend", self._backend)
        return _sorted(lambda: self._alone_at_first("resample", lambda: backend.resample(wave, sample_rate)))

    def _alone_at_first(self, what: str, work: Callable[[], T]) -> T:
        """The first call of each kind imports what it needs: two threads that import modules which import one another may
        see one of them half made, and it would look like the clip's fault.
        """
        if what in self._called:
            return work()
        with self._first:
            try:
                return work()
            finally:
                self._called.add(what)

    def begin(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result | ClipError]]:
        """Begin to encode a batch. What is returned waits for it, and gives one result per item, in their order.

        A ClipError of several items together is pinned to those that cause it alone, in calls of the same shape.
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
                return self._pin(items, shape, error)

        return outcomes

    def _pin(self, items: Sequence[Item], shape: LaneShape | None, error: ClipError) -> list[Result | ClipError]:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in self.begin([item], shape)()]

    def _begin(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result]]:
        call = _sorted(lambda: self._alone_at_first("encode", lambda: self._call(items, shape)))

        def finish() -> list[Result]:
            results = _sorted(call)
            if len(results) != len(items):
                raise InfrastructureError(f"the backend gave {len(results)} results for {len(items)} waveforms: a bug in it")
            return results

        return finish

    def _call(self, items: Sequence[Item], shape: LaneShape | None) -> Callable[[], list[Result]]:
        if shape is not None:
            lanes = cast("LanesOfWaves", self._backend)
            wait = lanes.encode_lanes(cast("Sequence[Waveform]", items), shape)
            return lambda: list(wait())
        results: list[Result]
        if self._backend.info.max_tokens_per_fragment is None:
            results = list(cast("ClipBackend", self._backend).encode_clips(cast("Sequence[Utterance]", items)))
        else:
            results = list(cast("FrameBackend", self._backend).encode(cast("Sequence[Waveform]", items)))
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
        # Of a tar it would say that its files are at fault, and the next is tried.
        raise InfrastructureError(f"the backend failed: {type(error).__name__}: {error}") from error
    except Exception as error:
        known = {cls.__name__ for cls in type(error).__mro__} & DEVICE_ERRORS
        if known or any(word in str(error) for word in DEVICE_WORDS):
            raise InfrastructureError(f"the device failed: {type(error).__name__}: {error}") from error
        if (trouble := _machine_behind(error)) is not None:
            raise trouble from error
        raise ClipError("backend", f"{type(error).__name__}: {error}") from error


def _machine_behind(error: BaseException) -> InfrastructureError | None:
    """The machine's trouble that `error` is the outcome of, as its cause or in its words; None if it is of another kind."""
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
