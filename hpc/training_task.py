"""The task of a training: it starts a process per GPU, and writes down how far they came and what ended them.

As soon as one of them ends badly, the others are ended too: they would wait for it. Steps are exchanged by gradients, so
there is nothing that one process could go on with alone.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec

from audio_tokenizers.errors import Tar2TokensError
from audio_tokenizers.shared.wording import counted
from hpc.deaths import explain
from hpc.plan import Plan
from hpc.submissions import Submission
from hpc.task_id import TaskId
from hpc.witness import CRASH_EXIT, die_with, flush_streams
from jobs.fileops import describe_error
from jobs.memory_events import read_oom_kills
from jobs.plain_text import warn
from jobs.progress import Ending, Progress, Try, write_progress
from jobs.signals import STOP_SIGNALS, StopFlag
from jobs.taste.endings import Ended, How, ended_by
from jobs.taste.status import read_status
from jobs.taste.training import NAME, Owner, train

__all__ = ["Seat", "judge_ends", "run_training"]

LOOK_SECONDS = 1.0
REPORT_SECONDS = 60.0
"""How often the report is written at least: to another host it is the task's sign of life."""
BAD_END_SECONDS, GOOD_END_SECONDS = 5.0, 600.0
"""How long other processes may take to end after one that failed, and after one that ended well: rank 0 draws curves."""
WRITE_TRIES = 60
HOST = "127.0.0.1"
WEIGHT: tuple[How, ...] = ("refused", "died", "killed", "storage", "trouble", "left_alone", "lost", "stopped", "finished")
"""Which end of several explains the others, first to last."""
OUTCOMES: Mapping[How, Ending] = {
    "finished": "committed",
    "stopped": "yielded",
    "refused": "damaged",
    "storage": "machine",
    "trouble": "machine",
    "left_alone": "left_alone",
    "lost": "machine",
    "died": "died",
    "killed": "killed",
}
GOOD = ("finished", "stopped")

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True)
class Seat:
    """What a task has of its node."""

    node: str
    gpus: Sequence[str]
    """Names for CUDA_VISIBLE_DEVICES."""
    threads: int
    """Of all processes together."""
    stop_at: float | None
    """When to write the last checkpoint, in seconds since the epoch; None for never."""


def run_training(submission: Submission, plan: Plan, seat: Seat) -> int:
    """Train until the last epoch or until a signal; returns the exit code."""
    output_dir, report_file = submission.folder.parent.parent.parent, submission.report_file(0)
    attempt = Try(NAME, "working", alone=True)
    gpus = seat.gpus[: plan.ranks] if plan.device != "cpu" else ()
    report = Progress(node=seat.node, gpu=",".join(gpus) or None, started=time.time(), tries=[attempt])
    before, written = _saved_steps(output_dir), 0.0
    write_progress(report_file, report)

    def look() -> None:
        nonlocal written
        gained = max(0, _saved_steps(output_dir) - before)
        if gained != attempt.gained or time.monotonic() - written > REPORT_SECONDS:
            attempt.gained, written = gained, time.monotonic()
            write_progress(report_file, report)

    if plan.device != "cpu" and len(gpus) < plan.ranks:
        ended = Ended("trouble", f"expected {counted(plan.ranks, 'GPU')} on {seat.node}, found {len(gpus)}", 1)
        log.error("%s", ended.words)
    else:
        ranks = _Ranks(seat.node)
        with socket.socket() as listener:  # bound before any rank begins, and never given back until all have ended
            listener.bind((HOST, 0))
            listener.listen(plan.ranks)
            for rank in range(plan.ranks):
                ranks.start(lambda rank=rank: _train(rank, submission, plan, seat, listener, ranks))  # type: ignore[misc]
            ended = judge_ends(ranks.watch(look), asked=ranks.asked)
    look()
    attempt.outcome, attempt.storage = OUTCOMES[ended.how], ended.storage
    attempt.problem = "" if ended.how in GOOD else ended.words
    report.finished = True
    for _ in range(WRITE_TRIES if ended.how == "storage" else 1):
        if write_progress(report_file, report):
            break
        time.sleep(LOOK_SECONDS)
    log.info("%s, %s in all", ended.how.replace("_", " "), counted(_saved_steps(output_dir), "step"))
    return ended.code


def judge_ends(ends: Sequence[Ended], *, asked: bool) -> Ended:
    """How the training ended, by the ends of its ranks, of which the first writes. Pure.

    If it was `asked` to stop, a process that was killed is to blame for nothing: it may have been slow to stop.
    """
    if ends[0].how == "finished":
        return ends[0]
    rank, worst = min(enumerate(ends), key=lambda one: WEIGHT.index(one[1].how))
    if asked and worst.how in ("died", "killed", "lost"):
        return Ended("stopped", worst.words, worst.code)
    if len(ends) > 1 and worst.how in ("died", "killed"):
        return msgspec.structs.replace(worst, words=f"rank {rank}: {worst.words}")
    return worst


def _saved_steps(output_dir: Path) -> int:
    status = read_status(output_dir)
    return status.saved if status is not None else 0


def _train(rank: int, submission: Submission, plan: Plan, seat: Seat, listener: socket.socket, ranks: _Ranks) -> Ended:
    """What the process of one rank does."""
    assert plan.training is not None, "a plan of a training"
    on_gpu = plan.device != "cpu"
    if on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seat.gpus[: plan.ranks])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(max(1, seat.threads // plan.ranks))
    port = listener.getsockname()[1]
    places = {"RANK": rank, "WORLD_SIZE": plan.ranks, "MASTER_ADDR": HOST, "MASTER_PORT": port}
    stop = StopFlag(seat.stop_at, answer="writing a checkpoint" if rank == 0 else "")
    with stop.on_signals():
        if ranks.asked:
            stop.signal = signal.SIGTERM
        try:
            finished = train(
                plan.training,
                submission.folder.parent.parent.parent,
                f"cuda:{rank}" if on_gpu else "cpu",
                stop=stop,
                environment={name: str(value) for name, value in places.items()},
                listener=listener,
                owner=Owner(str(TaskId(plan.submission, 0)), plan.knows_gone),
            )
        except (Tar2TokensError, OSError, MemoryError) as error:
            log.error("%s", describe_error(error))
            return ended_by(error)
    return Ended("finished" if finished else "stopped")


@dataclass
class _Rank:
    """A process, and the pipe through which it says how it ended."""

    pid: int
    pipe: int
    ended: Ended | None = None


@dataclass
class _Ranks:
    """The processes of one training."""

    node: str
    asked: bool = False
    """A signal has asked the task to end."""
    _ranks: list[_Rank] = field(default_factory=list)
    _deadline: float | None = None

    def __post_init__(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        for rank in self._alive():
            with suppress(ProcessLookupError):
                os.kill(rank.pid, number)

    def _alive(self) -> list[_Rank]:
        return [rank for rank in self._ranks if rank.ended is None]

    def start(self, work: Callable[[], Ended]) -> None:
        """Fork a process that does `work`."""
        flush_streams()
        parent = os.getpid()
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            die_with(parent)
            os.close(out)
            os._exit(_work(work, into))
        os.close(into)
        self._ranks.append(_Rank(pid, out))
        if self.asked:  # before this process was there to hear of it
            self._pass_on(signal.SIGTERM, None)

    def watch(self, look: Callable[[], None]) -> list[Ended]:
        """Wait for all processes; how each ended. `look` is called every LOOK_SECONDS."""
        ooms = read_oom_kills()
        killed: set[int] = set()
        while alive := self._alive():
            ready, _, _ = select.select([rank.pipe for rank in alive], [], [], LOOK_SECONDS)
            for rank in [rank for rank in alive if rank.pipe in ready]:
                with os.fdopen(rank.pipe, "rb") as pipe:
                    said = pipe.read()
                code = os.waitstatus_to_exitcode(os.waitpid(rank.pid, 0)[1])
                if rank.pid in killed:
                    rank.ended = Ended("lost", "another rank had ended", 1)
                elif code < 0:
                    death = explain(-code, None, ooms, read_oom_kills(), node=self.node)
                    rank.ended = Ended("killed" if death.cause == "outside" else "died", death.words, 1)
                    log.error("process %d: %s", rank.pid, death.words)
                else:
                    rank.ended = msgspec.json.decode(said, type=Ended)
                seconds = GOOD_END_SECONDS if rank.ended.how in GOOD else BAD_END_SECONDS
                self._deadline = min(self._deadline or float("inf"), time.monotonic() + seconds)
            look()
            if self._deadline is not None and time.monotonic() > self._deadline:
                for rank in self._alive():
                    killed.add(rank.pid)
                    with suppress(ProcessLookupError):
                        os.kill(rank.pid, signal.SIGKILL)
        return [rank.ended for rank in self._ranks if rank.ended is not None]


def _work(work: Callable[[], Ended], into: int) -> int:
    """Do the work, and tell of its end; returns the exit code."""
    try:
        ended = work()
    except BaseException as error:  # noqa: BLE001 (this process must not go on as a second parent)
        with suppress(OSError):
            warn(traceback.format_exc().rstrip())
        ended = Ended("trouble", f"{type(error).__name__}: {error}", CRASH_EXIT)
    os.write(into, msgspec.json.encode(msgspec.structs.replace(ended, words=ended.words[:10_000])))
    flush_streams()
    return ended.code
