"""What a worker reports while it works: log lines, a bar on a terminal, and a small file for the process that started it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from audio_tokenizers.shared.wording import counted
from jobs.any_json import decode_json
from jobs.console import LOG_SECONDS, bar_on_terminal, clock_time, describe_rate, eta_seconds
from jobs.fileops import StorageTrouble

__all__ = [
    "UNENDED",
    "DeviceSeconds",
    "Ending",
    "Kept",
    "Pace",
    "Progress",
    "ProgressFile",
    "Try",
    "describe_device",
    "read_progress",
    "write_progress",
]

WRITE_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
BAR_SECONDS = 0.2
MUCH_WAITING = 0.05
"""Share of a GPU's time spent waiting for audio. Below it more cores would gain next to nothing."""

log = logging.getLogger("tar2tokens")


Ending = Literal[
    "loading", "working", "committed", "yielded", "damaged", "left_alone", "failed", "machine", "died", "killed"
]
"""How a try at a tar ended. `failed`: trouble with the tar's files; `machine`: any other trouble. `died`: the process
crashed, or was ended because it made no progress; `killed`: it was most likely killed from outside. `loading` and `working`
are not ends: a worker whose last report says so was stopped from outside, for example by the death of its node.
"""

UNENDED = ("loading", "working")


class Kept(msgspec.Struct, frozen=True):
    """How far a try has got within a long clip that has no line yet."""

    clip: int
    """Counted from 0."""
    before: int
    """Fragments that were in the journal when the try began with the clip."""
    after: int
    """Fragments that are there now."""


class Try(msgspec.Struct):
    """One worker's try at one tar."""

    name: str
    outcome: Ending = "loading"
    gained: int = 0
    """Lines that this try added."""
    clip: int | None = None
    """The one clip in hand when the worker died, counted from 0."""
    problem: str = ""
    crash_clips: tuple[int, ...] = ()
    """Clips that this try must not decode."""
    alone: bool = False
    """No clip was read before the previous one had its line, so a death shows which clip caused it."""
    several: bool = False
    """The worker died with several clips in hand; which of them caused it, if any, is unknown."""
    short_of_memory: bool = False
    """It yielded for lack of memory; `problem` has the figures."""
    timed_out: bool = False
    """Its witness ended it after too long without progress."""
    storage: StorageTrouble | None = None
    """With `machine`: results could not be written, which says nothing about the tar."""
    untrusted: bool = False
    """With `failed`: a file of the tar's output is not what the run left there. The failure counts while that is so."""
    kept: Kept | None = None
    """The latest long clip that is in the journal."""

    @property
    def lengthened(self) -> int | None:
        """The long clip in which it got further, if there is one."""
        return self.kept.clip if self.kept is not None and self.kept.after > self.kept.before else None

    @property
    def came_on(self) -> bool:
        """Whether the tar needs less work now than before this try."""
        return self.gained > 0 or self.lengthened is not None


class DeviceSeconds(msgspec.Struct, frozen=True):
    """What the devices of one or more workers spent their time on."""

    busy: float = 0.0
    audio: float = 0.0
    """Waiting for decoded audio."""
    writer: float = 0.0
    """Waiting because memory was full of encoded clips that had no line yet."""

    def __add__(self, other: DeviceSeconds) -> DeviceSeconds:
        return DeviceSeconds(self.busy + other.busy, self.audio + other.audio, self.writer + other.writer)

    def __sub__(self, other: DeviceSeconds) -> DeviceSeconds:
        return DeviceSeconds(self.busy - other.busy, self.audio - other.audio, self.writer - other.writer)

    @property
    def total(self) -> float:
        """The sum."""
        return self.busy + self.audio + self.writer

    def rounded(self) -> DeviceSeconds:
        """To microseconds, for a readable file."""
        return DeviceSeconds(round(self.busy, 6), round(self.audio, 6), round(self.writer, 6))


class Progress(msgspec.Struct):
    """Running counts of one worker. The live line shows sums over workers; results themselves are in the ledger."""

    clips: int = 0
    errors: int = 0
    audio_seconds: float = 0.0
    tars_done: int = 0
    bytes_done: int = 0
    """Bytes of the tars on disk that have been used; resumed and finished tars count whole."""
    tar_bytes: int = 0
    """The same for the tar in hand alone."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """Over all lives of the worker, up to the last batch that its device took."""
    problems: list[tuple[str, str]] = []
    """(tar name, why it has no committed file)"""
    finished: bool = False
    """The worker ended by itself."""
    tries: list[Try] = []
    """Every tar that it took, in order. The controller judges tars, clips and nodes by them."""
    node: str = ""
    gpu: str | None = None
    started: float = 0.0
    """Seconds since the epoch, by the node's clock. For display only."""

    def tell_of_storage(self, tars: Sequence[str], words: str, trouble: StorageTrouble) -> None:
        """Make sure that a try reports it: that of the first tar, if no tar was in hand yet."""
        if not any(attempt.storage for attempt in self.tries):
            self.tries += [Try(name, "machine", problem=words, storage=trouble) for name in tars[:1]]

    def tell_of_shortage(self, tars: Sequence[str], words: str) -> None:
        """Make sure that a try reports it: that of the next tar, if no tar was in hand."""
        if not any(attempt.short_of_memory for attempt in self.tries):
            tried = {attempt.name for attempt in self.tries}
            for name in [name for name in tars if name not in tried][:1]:
                self.tries.append(Try(name, "yielded", problem=words, short_of_memory=True))


class Pace:
    """Describes progress: audio-hours per hour of this attempt, and the time that is left."""

    def __init__(self, total_bytes: int, started: float) -> None:
        self._total_bytes = total_bytes
        self._started = started
        self._bytes_before: int | None = None

    def words(self, progress: Progress, moment: float) -> str:
        """`12 clips, 1 errors, 0.01 audio-h at 310 audio-h/h, ETA 0:01:02`."""
        wall = moment - self._started
        if self._bytes_before is None and (progress.clips or progress.tar_bytes):
            self._bytes_before = progress.bytes_done  # where the partial of a resumed tar ends, or its long clip
        left = eta_seconds(self._bytes_before or 0, progress.bytes_done, self._total_bytes, wall)
        rate = describe_rate(progress.audio_seconds, wall)
        return f"{counted(progress.clips, 'clip')}, {counted(progress.errors, 'error')}, {rate}, ETA {clock_time(left)}"


class ProgressFile:
    """Publishes a Progress every `write_seconds` at most. A failed write costs nothing but news."""

    def __init__(
        self,
        path: Path | None,
        *,
        total_bytes: int = 0,
        progress: Progress | None = None,
        write_seconds: float = WRITE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = progress or Progress()
        self._path = path
        self._write_seconds = write_seconds
        self._clock = clock
        self._total_bytes = total_bytes
        self._written = self._logged = self._drawn = clock()
        self._pace = Pace(total_bytes, self._written)
        self._draw: Callable[[str], None] | None = None

    def publish(self, *, now: bool = False) -> bool:
        """Write the counts, if it is time or `now` is set. Returns whether the file has them."""
        moment = self._clock()
        if self._draw is not None:
            if moment - self._drawn >= BAR_SECONDS or now:
                self._drawn = moment
                self._draw(self._pace.words(self.progress, moment))
        elif moment - self._logged >= LOG_SECONDS:
            self._logged = moment
            log.info("%s", self._pace.words(self.progress, moment))
        if self._path is None or (moment - self._written < self._write_seconds and not now):
            return self._path is None
        self._written = moment
        return write_progress(self._path, self.progress)

    def publish_at_last(self, stop: Callable[[], bool], sleep: Callable[[float], None] = time.sleep) -> None:
        """Write the counts, retrying for PATIENCE_SECONDS while there is no room: they say why the worker ended."""
        until = self._clock() + PATIENCE_SECONDS
        while not self.publish(now=True) and not stop() and self._clock() < until:
            sleep(WRITE_SECONDS)

    @contextmanager
    def on_terminal(self, name: str) -> Iterator[None]:
        """Within this block a bar replaces the log lines about progress, if stderr is a terminal."""
        with bar_on_terminal(name, self._total_bytes, own_rate=False) as bar:
            if bar is None:
                yield
                return

            def draw(words: str) -> None:
                bar.n = min(self.progress.bytes_done, self._total_bytes)
                bar.set_postfix_str(words, refresh=True)

            self._draw = draw
            try:
                yield
            finally:
                self._draw = None


def write_progress(path: Path, progress: Progress) -> bool:
    """Publish atomically: a reader sees the old report or the new one. Returns whether it could be written."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(progress))
        os.replace(temporary, path)  # noqa: PTH105 (one call, no second Path object on this hot path)
    except OSError as error:
        log.debug("progress not written: %s", error)
        return False
    return True


def read_progress(path: Path) -> Progress | None:
    """What a worker has published, or None if there is nothing readable yet."""
    try:
        return decode_json(path.read_bytes(), Progress)
    except (OSError, msgspec.DecodeError):
        return None


def describe_device(spent: DeviceSeconds, *, gpu: bool) -> str:
    """`busy 94 %, waiting for audio 5 %, for the writer 1 %`, with advice; empty before the first second.

    Only a GPU gets advice: on a CPU decoding and encoding share the cores, and more of them always help.
    """
    total = spent.total
    if total <= 0:
        return ""
    busy, audio, writer = (f"{100 * seconds / total:.0f} %" for seconds in (spent.busy, spent.audio, spent.writer))
    advice = ": more CPU cores would help (--cpus-per-gpu)" if gpu and spent.audio / total >= MUCH_WAITING else ""
    return f"busy {busy}, waiting for audio {audio}, for the writer {writer}{advice}"
