"""What a worker tells of itself while it works: log lines, a bar on a terminal, and a small file for whoever started it."""

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
"""Of a GPU's time, waiting for audio: below that, more cores would gain next to nothing."""

log = logging.getLogger("tar2tokens")


Ending = Literal[
    "loading", "working", "committed", "yielded", "damaged", "left_alone", "failed", "machine", "died", "killed"
]
"""How a try at a tar ended: `failed` is trouble with the tar's files, `machine` with everything else. `died` is a process
that crashed, or made no progress until it was ended; `killed` one that somebody has killed, as far as anyone can tell.
`loading` and `working` are no ends: whoever still says so was stopped from outside, such as by a node that died.
"""

UNENDED = ("loading", "working")


class Kept(msgspec.Struct, frozen=True):
    """How far a try has come within a long clip that has no line yet."""

    clip: int
    """Counted from 0."""
    before: int
    """Its fragments that were in the journal when the try began with it."""
    after: int
    """Those that are there now."""


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
    """Clips that this try was told not to touch."""
    alone: bool = False
    """No clip of it was read before the one before it had its line: a death says which clip it was."""
    several: bool = False
    """The worker died with several clips in hand: nobody knows which of them it was, if it was one of them."""
    short_of_memory: bool = False
    """It yielded because there was too little memory: `problem` says how little."""
    timed_out: bool = False
    """It died because its witness ended it: it had made no progress for too long."""
    storage: StorageTrouble | None = None
    """With `machine`: it ended because results could not be written, which says nothing of the tar."""
    untrusted: bool = False
    """With `failed`: for a file of the tar's output that is not what the run has left there. It counts while that is so."""
    kept: Kept | None = None
    """The latest long clip that it has put into the journal."""

    @property
    def lengthened(self) -> int | None:
        """The long clip within which it has come further, if there is one."""
        return self.kept.clip if self.kept is not None and self.kept.after > self.kept.before else None

    @property
    def came_on(self) -> bool:
        """Whether the tar needs less work than before."""
        return self.gained > 0 or self.lengthened is not None


class DeviceSeconds(msgspec.Struct, frozen=True):
    """What the seconds of one worker's device, or of several, were spent on."""

    busy: float = 0.0
    audio: float = 0.0
    """Waiting for decoded audio."""
    writer: float = 0.0
    """Waiting, while the memory was full of what had been encoded and had no line yet."""

    def __add__(self, other: DeviceSeconds) -> DeviceSeconds:
        return DeviceSeconds(self.busy + other.busy, self.audio + other.audio, self.writer + other.writer)

    def __sub__(self, other: DeviceSeconds) -> DeviceSeconds:
        return DeviceSeconds(self.busy - other.busy, self.audio - other.audio, self.writer - other.writer)

    @property
    def total(self) -> float:
        """All of them."""
        return self.busy + self.audio + self.writer

    def rounded(self) -> DeviceSeconds:
        """To microseconds, for a file that people may read."""
        return DeviceSeconds(round(self.busy, 6), round(self.audio, 6), round(self.writer, 6))


class Progress(msgspec.Struct):
    """Running counts of one worker. Sums over workers make the live line; results themselves are in the ledger."""

    clips: int = 0
    errors: int = 0
    audio_seconds: float = 0.0
    tars_done: int = 0
    bytes_done: int = 0
    """Of the tars' sizes on disk, what has been used; resumed and finished tars count whole."""
    tar_bytes: int = 0
    """The same of the tar in hand alone."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """Of all its lives, up to the last batch that its device took."""
    problems: list[tuple[str, str]] = []
    """(tar name, why it has no committed file)"""
    finished: bool = False
    """The worker came to its end by itself."""
    tries: list[Try] = []
    """Every tar that it took, in order. The controller judges tars, clips and nodes by these."""
    node: str = ""
    gpu: str | None = None
    started: float = 0.0
    """Seconds since the epoch, by the node's clock: for people."""

    def tell_of_storage(self, tars: Sequence[str], words: str, trouble: StorageTrouble) -> None:
        """Have a try that says so also where no tar was in hand yet: at the one that would have been the first."""
        if not any(attempt.storage for attempt in self.tries):
            self.tries += [Try(name, "machine", problem=words, storage=trouble) for name in tars[:1]]

    def tell_of_shortage(self, tars: Sequence[str], words: str) -> None:
        """Have a try that says so also where memory was short with no tar in hand: at the one that would have been next."""
        if not any(attempt.short_of_memory for attempt in self.tries):
            tried = {attempt.name for attempt in self.tries}
            for name in [name for name in tars if name not in tried][:1]:
                self.tries.append(Try(name, "yielded", problem=words, short_of_memory=True))


class Pace:
    """Puts progress into words: audio-hours per hour of this attempt, and when it will be done."""

    def __init__(self, total_bytes: int, started: float) -> None:
        self._total_bytes = total_bytes
        self._started = started
        self._bytes_before: int | None = None

    def words(self, progress: Progress, moment: float) -> str:
        """`12 clips, 1 errors, 0.01 audio-h at 310 audio-h/h, ETA 0:01:02`."""
        wall = moment - self._started
        if self._bytes_before is None and (progress.clips or progress.tar_bytes):
            self._bytes_before = progress.bytes_done  # a resumed tar begins at where its partial ends, or its long clip does
        left = eta_seconds(self._bytes_before or 0, progress.bytes_done, self._total_bytes, wall)
        rate = describe_rate(progress.audio_seconds, wall)
        return f"{counted(progress.clips, 'clip')}, {counted(progress.errors, 'error')}, {rate}, ETA {clock_time(left)}"


class ProgressFile:
    """Publishes a Progress every `write_seconds` at most. A write that fails costs nothing but news."""

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
        """Write the counts out, if it is time or `now` is set. Returns whether the file has them."""
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
        """Write the counts out, and try for PATIENCE_SECONDS where there is no room: without them nobody knows why the
        worker has ended.
        """
        until = self._clock() + PATIENCE_SECONDS
        while not self.publish(now=True) and not stop() and self._clock() < until:
            sleep(WRITE_SECONDS)

    @contextmanager
    def on_terminal(self, name: str) -> Iterator[None]:
        """Within this block a bar stands for the log lines about progress, if stderr is a terminal."""
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
    """Publish. A reader sees the old report or the new one. Returns whether it could be written."""
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
    """What a worker has published, or None if it has not yet, or what is there is unreadable."""
    try:
        return decode_json(path.read_bytes(), Progress)
    except (OSError, msgspec.DecodeError):
        return None


def describe_device(spent: DeviceSeconds, *, gpu: bool) -> str:
    """`busy 94 %, waiting for audio 5 %, for the writer 1 %`, and what helps; empty before there is anything to tell.

    Advice is for GPUs: on a CPU decoding and encoding share the cores, and both would be faster with more of them.
    """
    total = spent.total
    if total <= 0:
        return ""
    busy, audio, writer = (f"{100 * seconds / total:.0f} %" for seconds in (spent.busy, spent.audio, spent.writer))
    advice = ": more CPU cores would help (--cpus-per-gpu)" if gpu and spent.audio / total >= MUCH_WAITING else ""
    return f"busy {busy}, waiting for audio {audio}, for the writer {writer}{advice}"
