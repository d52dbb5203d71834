"""What a worker reports while it runs: how each try at a tar goes, and its counts of clips, audio, bytes and device time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jobs.progress import DeviceSeconds, Kept, ProgressFile, Try
from jobs.records import ErrorRecord, Record
from jobs.tar_task import TarTask

__all__ = ["TarInHand", "WorkerReport"]

log = logging.getLogger("tar2tokens")


@dataclass(slots=True)
class TarInHand:
    """A tar that is being worked on, and the report of this try."""

    task: TarTask
    attempt: Try
    tar_bytes: int = 0
    """Bytes of the tar used so far."""


class WorkerReport:
    """Keeps a worker's `ProgressFile`."""

    def __init__(self, reports: ProgressFile) -> None:
        self.device_time: Callable[[], DeviceSeconds] = DeviceSeconds
        """What the device has done since the backend was loaded."""
        self._reports = reports
        self._progress = reports.progress
        self._in_hand: list[TarInHand] = []
        self._bytes_before = reports.progress.bytes_done
        self._device_seconds_before = reports.progress.device_seconds

    def publish(self, *, now: bool = False) -> None:
        """Write the file, if it is time or `now`."""
        self._progress.device_seconds = self._device_seconds_before + self.device_time()
        self._reports.publish(now=now)

    def begin(self, task: TarTask) -> TarInHand:
        """A try at a tar begins."""
        one = TarInHand(task, Try(task.name, crash_clips=task.crash_clips, alone=task.one_at_a_time))
        self._progress.tries.append(one.attempt)
        return one

    def working(self, one: TarInHand) -> None:
        """The tar's clips are about to be read: if this process dies, the report shows what it was doing."""
        one.attempt.outcome = "working"
        self._in_hand.append(one)
        self.publish(now=True)

    def encoded(self, one: TarInHand, seconds: float, used: int) -> None:
        """Seconds of audio became tokens; `used`: bytes of the tar used so far."""
        self._progress.audio_seconds += seconds
        one.tar_bytes = used
        self._count_bytes()

    def line(self, one: TarInHand, record: Record) -> None:
        """A clip has its line."""
        attempt = one.attempt
        self._progress.clips += 1
        attempt.gained += 1
        if isinstance(record, ErrorRecord):
            self._progress.errors += 1
            log.info("%s: %s: %s", record.audio_file, record.error_kind, record.error)
        elif record.damage is not None:
            lost, why = record.damage.seconds, record.damage.what
            log.info("%s: damaged: %.3f s could not be decoded: %s", record.audio_file, lost, why)
        # Publish the first line that took the model at once: if the next clip is a killer, this success clears the node.
        self.publish(now=attempt.gained == len(attempt.crash_clips) + 1)

    def kept(self, one: TarInHand, kept: Kept) -> None:
        """Part of a long clip is in the journal: if it kills the worker, that counts for the clip and clears the node."""
        first = one.attempt.lengthened != kept.clip
        one.attempt.kept = kept
        self.publish(now=first)

    def machine_trouble(self, one: TarInHand, problem: str) -> None:
        """The machine failed while this tar was in hand."""
        one.attempt.outcome, one.attempt.problem = "machine", problem
        self._progress.problems.append((one.task.name, problem))
        self._in_hand = [other for other in self._in_hand if other is not one]
        self.publish(now=True)

    def ended(self, one: TarInHand) -> None:
        """The try is over, as its `attempt` says."""
        attempt, name = one.attempt, one.task.name
        if attempt.outcome in ("failed", "damaged"):
            self._progress.problems.append((name, attempt.problem))
            log.error("%s: %s", name, attempt.problem)
        elif attempt.outcome == "committed":
            self._progress.tars_done += 1
        self._in_hand = [other for other in self._in_hand if other is not one]
        self._bytes_before += one.task.bytes
        self._count_bytes()
        self.publish(now=True)

    def yielded(self, all_in_hand: Iterable[TarInHand]) -> None:
        """The worker ends with these tars in hand."""
        for one in all_in_hand:
            one.attempt.outcome = "yielded"
        self.publish(now=True)

    def _count_bytes(self) -> None:
        self._progress.tar_bytes = sum(one.tar_bytes for one in self._in_hand)
        self._progress.bytes_done = self._bytes_before + self._progress.tar_bytes
