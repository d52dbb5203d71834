"""What a worker's threads are at, in memory that its witness shares: another process sees which of them gets on, and which
does not, whatever it is stuck in.

A thread says what it begins, and gives a sign whenever it gets on with it. Who looks compares stamps: one that is still the
same has not got on since. No clock is involved here; jobs/watchdog.py counts the time.
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
"""On top, for each second of audio that the step has in hand: what is ten times slower than real time is of no use for a
corpus, on whatever machine."""
LOAD_SECONDS = 3600.0
"""Without reading or computing anything: what a slow file system delivers in an hour is still progress."""

SLOTS = 256
"""Threads that can be seen at once; those beyond work unseen."""
HEADER = struct.Struct("<QdQ")
"""Stamp (0: nothing is going on), allowed seconds, length of the words that follow."""
WORDS_AT = SLOTS * HEADER.size
WORDS_BYTES = 8192
LONGEST_NAME = 900
"""Characters, of up to four bytes each."""
T = TypeVar("T")


class _Words(msgspec.Struct, frozen=True, array_like=True):
    """What does not change while an activity goes on."""

    what: What
    tar: str
    clip: int | None
    about: str


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Words)


@dataclass(frozen=True, slots=True)
class Activity:
    """What one thread is at."""

    slot: int
    stamp: int
    """Another one at each sign of progress, and for each activity."""
    allowed: float
    """Seconds that it may take without a sign; infinite where nobody ends it."""
    what: What
    tar: str = ""
    """The output name of the tar, where it is one tar's."""
    clip: int | None = None
    """Position of the one clip in hand, from 0."""
    about: str = ""
    """A path, or how many clips beside the first."""

    def concerns(self, tar: str) -> bool:
        """Whether it may be at this tar."""
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
    """How long a step may take without a sign of progress: `clip_timeout` seconds, for ever where that is 0, and by default
    a time that is derived from the audio in hand.

    Writing is never ended: the next worker would wait for the same file system.
    """
    if what == "write" or clip_timeout == 0:
        return math.inf
    if clip_timeout is not None:
        return clip_timeout
    return LOAD_SECONDS if what == "load" else BASE_SECONDS + PER_AUDIO_SECOND * audio_seconds


class Step:
    """How a thread tells of what it is at."""

    def __init__(self, show: Callable[[float | None], None], allowed: Callable[[float], float]) -> None:
        self._show = show
        self._allowed = allowed
        self._audio_seconds = 0.0

    def sign(self, audio_seconds: float | None = None) -> None:
        """It gets on; from now on with so much audio in hand, if that changes."""
        if audio_seconds is not None:
            self._audio_seconds = audio_seconds
        self._show(self._allowed(self._audio_seconds))

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, each of which is a sign."""
        for item in items:
            self.sign()
            yield item

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this block the thread waits for others: nobody is to blame it."""
        self._show(None)
        try:
            yield
        finally:
            self.sign()


class Activities:
    """Of one worker process and, if it was made before the fork, for its parent to see."""

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
        """Within this block the calling thread is at it."""
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
        """`Step.waiting` of what the calling thread is at, where its step is not at hand."""
        step: Step | None = getattr(self._own, "step", None)
        return nullcontext() if step is None else step.waiting()

    def seen(self) -> list[Activity]:
        """What is going on. May be called in another process, at any time."""
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
    """What fits, in letters that UTF-8 has: a path may hold other bytes."""
    return name[:LONGEST_NAME].encode(errors="surrogateescape").decode(errors="backslashreplace")
