"""The figures of a run and their words, of the live table, the lines without a terminal, and the messages at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from audio_tokenizers.shared.wording import counted
from hpc.controller import Round
from hpc.failure_groups import Failure, log_tail
from hpc.stalls import Still, describe_stalls
from jobs.console import clock_time, eta_seconds
from jobs.plain_text import plain, plain_lines
from jobs.progress import UNENDED, DeviceSeconds
from jobs.taste.status import Status

__all__ = [
    "Snapshot",
    "Speed",
    "describe_failures",
    "describe_log",
    "describe_running",
    "describe_tasks",
    "line",
    "share_done",
    "take_snapshot",
]

NAMES_SHOWN = 5
NODES_SHOWN = 8


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run at one moment."""

    tars: int
    done: int
    quarantined: int
    clips: int
    """Lines of committed files and partials."""
    errors: int
    """Clips with an error record, in committed files and as reported by running tasks."""
    damaged: int = 0
    """Clips kept with a part missing, in committed files and partials."""
    audio_seconds: float
    """Audio in committed files, partials and long clips in progress."""
    encoded_seconds: float
    """Audio that the run's tasks have encoded, some of it more than once: the basis of the speed."""
    counted_seconds: float = 0.0
    """The part of the audio that is from the tars counted in `bytes_done`."""
    quarantined_seconds: float = 0.0
    """The part of the audio that is from quarantined tars."""
    bytes_done: int
    bytes_total: int
    """Size of the tars that are not quarantined."""
    running: dict[str, int]
    """Node -> tasks."""
    pending: int
    submitted: int
    """Arrays submitted in this round; their tasks are not counted yet."""
    waiting: int
    """Tars for which Slurm has not accepted a job yet."""
    why_waiting: str = ""
    """Why they wait, if not for room in the queue."""
    reasons: dict[str, int]
    """Slurm's reasons why tasks are pending."""
    unknown: int
    """Submissions whose state is currently unknown."""
    stalls: tuple[Still, ...] = ()
    """Tasks that make no progress."""
    excluded: tuple[str, ...]
    device_seconds: DeviceSeconds
    """How the devices of the running tasks have spent their time."""
    on_gpu: bool
    """Whether the devices are GPUs."""
    training: str = ""
    """How far the training is, of a run that trains; the figures of tars say nothing then."""
    trained: Status | None = None
    """The same in figures, once there is a first step."""


def take_snapshot(seen: Round) -> Snapshot:
    """Pure: the figures of a round."""
    manifests = [tar.manifest for tar in seen.states if tar.state == "committed" and tar.manifest is not None]
    live = [report for reports in seen.reports.values() for report in reports.values() if not report.finished]
    tasks = [task for job in seen.running.values() for task in job.tasks.values()]
    done_bytes = sum(manifest.input_bytes for manifest in manifests)
    in_hand = {attempt.name for report in live for attempt in report.tries if attempt.outcome in UNENDED}
    return Snapshot(
        tars=len(seen.states),
        done=len(manifests),
        quarantined=len(seen.decision.quarantine),
        clips=sum(tar.clips for tar in seen.states),
        errors=sum(sum(manifest.errors.values()) for manifest in manifests),
        damaged=sum(tar.damaged_clips for tar in seen.states),
        audio_seconds=sum(tar.audio_seconds for tar in seen.states),
        encoded_seconds=seen.audio_seconds,
        counted_seconds=sum(s.audio_seconds for s in seen.states if s.state == "committed" or s.name in in_hand),
        quarantined_seconds=sum(s.audio_seconds for s in seen.states if s.name in seen.decision.quarantine),
        bytes_done=done_bytes + sum(report.tar_bytes for report in live),
        bytes_total=done_bytes + seen.bytes_left,
        running=dict(sorted(Counter(task.node for task in tasks if task.state != "PENDING").items())),
        pending=sum(task.state == "PENDING" for task in tasks),
        submitted=len(seen.submitted.submissions),
        waiting=seen.submitted.waiting,
        why_waiting=seen.submitted.why,
        reasons=dict(Counter(task.reason for task in tasks if task.state == "PENDING" and task.reason)),
        unknown=len(seen.unknown),
        stalls=seen.stalls,
        excluded=tuple(sorted(seen.decision.exclude)),
        device_seconds=sum((report.device_seconds for report in live), DeviceSeconds()),
        on_gpu=any(report.gpu is not None for report in live),
        training=seen.training,
        trained=seen.trained,
    )


class Speed:
    """Audio-hours per hour and the remaining time, measured since this object was created."""

    def __init__(self, first: Snapshot, moment: float) -> None:
        self._first = first
        self._started = moment

    def words(self, now: Snapshot, moment: float) -> str:
        """`1.25 audio-h at 310 audio-h/h, ETA 0:12:00`; the rate is measured by this command, the hours are the run's."""
        rate, left = self.measure(now, moment)
        return f"{now.audio_seconds / 3600:,.2f} audio-h at {rate:.0f} audio-h/h, ETA {clock_time(left)}"

    def measure(self, now: Snapshot, moment: float) -> tuple[float, float | None]:
        """Audio seconds per second, and the seconds left; None before there is a rate."""
        wall = moment - self._started
        rate = (now.encoded_seconds - self._first.encoded_seconds) / wall if wall > 0 else 0.0
        return rate, self._left(now, rate, wall)

    def _left(self, now: Snapshot, rate: float, wall: float) -> float | None:
        """Seconds left, from the remaining audio; without audio so far, from bytes. Bytes would mislead: a resumed task's
        earlier bytes were used before this command began.
        """
        audio = _audio_done_of(now)
        if audio is None or not rate > 0:
            return eta_seconds(self._first.bytes_done, now.bytes_done, now.bytes_total, wall)
        done, whole = audio
        return max(whole - done, 0.0) / rate


def share_done(now: Snapshot) -> float:
    """How much of the run is done, 0 to 1, as the remaining time is computed: by audio, or else bytes, or else tars."""
    sizes = (now.bytes_done, now.bytes_total) if now.bytes_total else (now.done, now.tars)
    done, whole = _audio_done_of(now) or sizes
    return min(1.0, done / whole) if whole else 0.0


def _audio_done_of(now: Snapshot) -> tuple[float, float] | None:
    """(done, whole): seconds of audio without quarantined tars; the whole is extrapolated from the tars so far, since a long
    recording may be most of a run. None without audio so far.
    """
    if not (now.counted_seconds > 0 and now.bytes_done > 0):
        return None
    return now.audio_seconds - now.quarantined_seconds, now.counted_seconds / now.bytes_done * now.bytes_total


def describe_tasks(
    running: Mapping[str, int], pending: int, reasons: Collection[str], *, nodes: int = NODES_SHOWN
) -> list[str]:
    """`12 tasks run on n1 (4), n2 (8)`, and `3 pending (Resources)` if there are any."""
    shown = ", ".join(f"{plain(node)} ({tasks})" for node, tasks in list(running.items())[:nodes])
    more = f" and {counted(len(running) - nodes, 'more node')}" if len(running) > nodes else ""
    tasks = sum(running.values())
    words = [f"{counted(tasks, 'task')} {'runs' if tasks == 1 else 'run'} on {shown}{more}" if tasks else "no task runs"]
    if pending:
        words.append(f"{pending} pending ({', '.join(map(plain, reasons)) or 'no reason given yet'})")
    return words


def describe_running(now: Snapshot, *, nodes: int = NODES_SHOWN) -> str:
    """`12 tasks run on n1 (4), n2 (8); 3 pending (Resources)`, with so many nodes by name."""
    words = describe_tasks(now.running, now.pending, now.reasons, nodes=nodes)
    if now.submitted:
        words.append(f"{counted(now.submitted, 'array')} submitted just now")
    if now.waiting:
        words.append(
            f"{counted(now.waiting, 'tar')} {'waits' if now.waiting == 1 else 'wait'} {_why_waiting(now.why_waiting)}"
        )
    if now.unknown:
        words.append(f"{counted(now.unknown, 'submission')} whose state is unknown now")
    return "; ".join(words)


def _why_waiting(why: str) -> str:
    """The first line of the reason; the log has the rest."""
    return f"({why.splitlines()[0]})" if why else "until Slurm takes more jobs"


def line(now: Snapshot, speed: str) -> str:
    """A round on one line."""
    quarantine = f", {now.quarantined} in quarantine" if now.quarantined else ""
    stuck = "".join(f"; {words}" for words in describe_stalls(now.stalls, shown=1))
    if now.training:
        return f"{now.training}; {describe_running(now)}{stuck}"
    return (
        f"{now.done}/{counted(now.tars, 'tar')}, {counted(now.clips, 'clip')}, {counted(now.errors, 'error')}{quarantine}, "
        f"{speed}; {describe_running(now)}{stuck}"
    )


def describe_failures(failures: Sequence[Failure]) -> list[str]:
    """One message per reason, with its tars: a fault of the backend affects every tar."""
    found = []
    for failure in failures:
        shown = ", ".join(map(plain, failure.tars[:NAMES_SHOWN]))
        more = f" and {len(failure.tars) - NAMES_SHOWN} more" if len(failure.tars) > NAMES_SHOWN else ""
        reason = plain_lines(failure.reason)
        found.append(f"{shown}{more}: {reason}" if shown else reason)
    return found


def describe_log(failure: Failure) -> str:
    """The end of a failure's log, indented."""
    tail = log_tail(failure.log_file, about=failure.problem)
    if not tail:
        return ""
    return f"the end of {failure.log_file}:\n" + "\n".join(f"  {plain(words)}" for words in tail)
