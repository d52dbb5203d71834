"""What a worker's threads are doing, in memory shared with its witness: another process sees which of them make progress.

A thread says what it begins, and signs whenever it makes progress. An observer compares stamps: an unchanged one means no
progress. There is no clock here; jobs/watchdog.py counts the time.
"""

from __future__ import annotations

import itertools
import math
import mmap
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

__all__ = ["BASE_SECONDS", "LOAD_SECONDS", "PER_AUDIO_SECOND", "Activities", "Activity", "Step", "What", "allowed_seconds"]

What = Literal["load", "read", "decode", "encode", "write"]
"""The backend; a tar; a clip; a call of the device; lines and all else below the output directory."""

BASE_SECONDS = 600.0
"""One step of reading, decoding or encoding: a block of audio, 1 MB of a tar, a call of the device. Network file systems
answer again after a minute or ten; a device's first call may compile its kernels."""
PER_AUDIO_SECOND = 10.0
"""In addition, per second of audio that the step has in hand: ten times slower than real time is useless for a corpus on any
machine."""
LOAD_SECONDS = 3600.0
"""Without any reading or computing: a slow file system that delivers something once an hour makes progress."""

SLOTS = 256
"""Threads that are visible at once; further ones work unseen."""
HEADER = struct.Struct("<QdQ")
"""Stamp (0: nothing is going on), allowed seconds, length of the words that follow."""
WORDS_AT = SLOTS * HEADER.size
WORDS_BYTES = 8192
LONGEST_NAME = 900
"""Characters, of up to four bytes each."""
T = TypeVar("T")


class _Words(msgspec.Struct, frozen=True, array_like=True):
    """The constant part of an activity."""

    what: What
    tar: str
    clip: int | None
    about: str


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Words)


@dataclass(frozen=True, slots=True)
class Activity:
    """What one thread is doing."""

    slot: int
    stamp: int
    """Changes at each sign of progress, and for each activity."""
    allowed: float
    """Seconds allowed without a sign; infinite if it is never ended."""
    what: What
    tar: str = ""
    """The output name of the tar, if it belongs to one."""
    clip: int | None = None
    """Position of the one clip in hand, from 0."""
    about: str = ""
    """A path, or how many clips beside the first."""

    def concerns(self, tar: str) -> bool:
        """Whether it may belong to this tar."""
        return self.tar in ("", _writable(tar))

    def __str__(self) -> str:
        """`decoding clip 7 of 000012`."""
        if self.what == "load":
            return "loading the backend"
        clip = f"clip {self.clip} of {self.tar}{self.about}"
        return {
            "read": f"reading {self.about}",
            "decode": f"decoding {clip}",
            "encode": f"encoding {clip}",
            "write": f"writing {self.about}",
        }[self.what]


def allowed_seconds(what: What, audio_seconds: float, clip_timeout: float | None) -> float:
    """Seconds that a step may take without a sign of progress: `clip_timeout`, infinite if that is 0, and by default a time
    that depends on the audio in hand.

    Writing is never ended: the next worker would wait for the same file system.
    """
    if what == "write" or clip_timeout == 0:
        return math.inf
    if clip_timeout is not None:
        return clip_timeout
    return LOAD_SECONDS if what == "load" else BASE_SECONDS + PER_AUDIO_SECOND * audio_seconds


class Step:
    """A thread's handle to report progress."""

    def __init__(self, show: Callable[[float | None], None], allowed: Callable[[float], float]) -> None:
        self._show = show
        self._allowed = allowed
        self._audio_seconds = 0.0

    def sign(self, audio_seconds: float | None = None) -> None:
        """Report progress, and the seconds of audio in hand if they change."""
        if audio_seconds is not None:
            self._audio_seconds = audio_seconds
        self._show(self._allowed(self._audio_seconds))

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; each one signs."""
        for item in items:
            self.sign()
            yield item

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this block the thread waits for others and is not expected to make progress."""
        self._show(None)
        try:
            yield
        finally:
            self.sign()


class Activities:
    """Those of one worker process; its parent sees them if the object was made before the fork."""

    def __init__(self, clip_timeout: float | None = None) -> None:
        self._clip_timeout = clip_timeout
        self._memory = mmap.mmap(-1, WORDS_AT + SLOTS * WORDS_BYTES)
        self._free = list(reversed(range(SLOTS)))
        self._lock = threading.Lock()
        self._stamps = itertools.count(1)
        self._own = threading.local()

    @contextmanager
    def doing(
        self, what: What, *, tar: str = "", clip: int | None = None, about: str = "", audio_seconds: float = 0.0
    ) -> Iterator[Step]:
        """Within this block the calling thread is doing this."""
        with self._lock:
            slot = self._free.pop() if self._free else None
        if slot is None:
            yield Step(lambda _allowed: None, lambda _audio_seconds: 0.0)
            return
        data = _encoder.encode(_Words(what, _writable(tar), clip, _writable(about)))
        words_at = WORDS_AT + slot * WORDS_BYTES
        self._memory[words_at : words_at + len(data)] = data

        def show(allowed: float | None) -> None:
            stamp = 0 if allowed is None else next(self._stamps)
            HEADER.pack_into(self._memory, slot * HEADER.size, stamp, allowed or 0.0, len(data))

        step = Step(show, lambda audio_seconds: allowed_seconds(what, audio_seconds, self._clip_timeout))
        step.sign(audio_seconds)
        outer, self._own.step = getattr(self._own, "step", None), step
        try:
            yield step
        finally:
            self._own.step = outer
            show(None)
            with self._lock:
                self._free.append(slot)

    def waiting(self) -> AbstractContextManager[None]:
        """`Step.waiting` of the calling thread's activity, for callers without the step."""
        step: Step | None = getattr(self._own, "step", None)
        return nullcontext() if step is None else step.waiting()

    def seen(self) -> list[Activity]:
        """All activities. May be called in another process, at any time."""
        found = []
        for slot in range(SLOTS):
            stamp, allowed, length = HEADER.unpack_from(self._memory, slot * HEADER.size)
            if stamp == 0:
                continue
            words_at = WORDS_AT + slot * WORDS_BYTES
            try:
                words = _decoder.decode(self._memory[words_at : words_at + length])
            except (msgspec.DecodeError, UnicodeDecodeError):  # caught in the middle of a change, so it goes on
                continue
            found.append(Activity(slot, stamp, allowed, words.what, words.tar, words.clip, words.about))
        return found


def _writable(name: str) -> str:
    """As much as fits, with bytes escaped that are not UTF-8, as paths may hold."""
    return name[:LONGEST_NAME].encode(errors="surrogateescape").decode(errors="backslashreplace")
