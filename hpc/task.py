"""python -m hpc.task PLAN: the whole life of one worker process, under Slurm or on this machine.

There are two processes: the worker, and a witness that only waits for it. If a clip kills the worker (SIGSEGV in a decoder,
the kernel's out-of-memory killer), or the worker is ended for lack of progress, the witness records which clip it was. If
the witness dies too, the worker was not to blame: a time limit, a cancelled job, a dead node. On a Mac's GPU there is no
witness.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from audio_tokenizers.shared.wording import counted
from hpc.deaths import Death, Tried, may_go_on, what_was_tried, write_down_death
from hpc.plan import Plan, stop_margin_s
from hpc.stalls import stall_file
from hpc.submissions import Submission
from hpc.task_id import TaskId
from hpc.training_task import Seat, run_training
from hpc.witness import LastLook, Witness
from jobs.activities import Activities
from jobs.commands import command_parser, setup_logging
from jobs.conveyor import DEFAULT_BUFFER_BYTES, Feeding
from jobs.devices import available_cores, visible_gpus
from jobs.fileops import StorageError, output_files
from jobs.memory_guard import DEFAULT_GUARD, MemoryGuard
from jobs.own_watch import ended_when_stuck
from jobs.progress import Progress, ProgressFile, read_progress, write_progress
from jobs.signals import StopFlag
from jobs.spec import read_spec
from jobs.tar_task import TarTask
from jobs.trust import private_umask
from jobs.worker import Crew, Wishes, run_tars

__all__ = ["Place", "feeding_of", "last_look", "main", "place_in_slurm", "run_task", "stop_time", "work_lists"]

REPORT_SECONDS = {True: 10.0, False: 0.5}
"""How often a worker publishes its counts, by `Place.shared`: thousands of workers may share a cluster's file system."""
IDLE_LIVES = 2
"""Workers in a row that died without progress, after which the task ends: the machine may be at fault."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True)
class Place:
    """Where this process runs, and which slot of the plan is its own."""

    slot: int
    node: str
    gpu: str | None
    """Its CUDA_VISIBLE_DEVICES, `mps`, or None for the CPU."""
    threads: int
    """Its share of the cores, for decoding and for the backend."""
    ends_at: float | None
    """When Slurm ends the job, in seconds since the epoch; None for never."""
    shared: bool
    """Whether it is one of many on a shared file system."""


def place_in_slurm(environment: Mapping[str, str], plan: Plan, gpus: Sequence[str], cores: int, now: float) -> Place | None:
    """Pure: the place that Slurm's variables describe; None for a process without a slot.

    A site may show each task only its own GPU, or all of the job's GPUs; then the local rank selects one.
    """
    element = int(environment["SLURM_ARRAY_TASK_ID"])
    rank = int(environment.get("SLURM_LOCALID", "0"))
    slots = plan.slots_of(element)
    if rank >= len(slots):
        return None
    mine = _gpus_in_slurm(environment, gpus) if plan.device != "cpu" else []
    end = environment.get("SLURM_JOB_END_TIME", "")
    known_end = float(end) if end.isdecimal() else now + plan.time_limit_s if plan.time_limit_s else None
    return Place(
        slot=slots[rank],
        node=environment.get("SLURMD_NODENAME") or socket.gethostname(),
        gpu=mine[rank % len(mine)] if mine else None,
        threads=int(environment.get("SLURM_CPUS_PER_TASK") or max(1, cores // plan.processes)),
        ends_at=known_end,
        shared=True,
    )


def _gpus_in_slurm(environment: Mapping[str, str], gpus: Sequence[str]) -> list[str]:
    """The GPUs that the site shows this task."""
    listed = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS") or ""
    return list(gpus) if "CUDA_VISIBLE_DEVICES" in environment or not listed else listed.split(",")


def feeding_of(place: Place, plan: Plan) -> Feeding:
    """How the worker keeps its device fed: one decode thread per core it has, unless the plan says otherwise."""
    return Feeding(
        decode_threads=place.threads if plan.decode_threads == "auto" else plan.decode_threads,
        buffer_bytes=DEFAULT_BUFFER_BYTES if plan.buffer_memory is None else plan.buffer_memory,
    )


def stop_time(place: Place, plan: Plan) -> float | None:
    """When to stop starting clips, in seconds since the epoch; None for never."""
    return None if place.ends_at is None or plan.time_limit_s is None else place.ends_at - stop_margin_s(plan.time_limit_s)


def last_look(place: Place, plan: Plan) -> LastLook | None:
    """When to report a clip that has taken half of the job's time, before Slurm ends the job."""
    if place.ends_at is None or plan.time_limit_s is None:
        return None
    return LastLook(place.ends_at - stop_margin_s(plan.time_limit_s) / 2, plan.time_limit_s / 2)


def work_lists(plan: Plan, slot: int, elements: int, tried: Tried) -> tuple[list[TarTask], list[TarTask]]:
    """A slot's own tars, and those of other slots to help with, last slot first, since it starts last."""
    submitted = min(len(plan.slots), elements * plan.processes)
    others = [task for number in reversed(range(submitted)) if number != slot for task in plan.slots[number]]
    search = [
        msgspec.structs.replace(task, one_at_a_time=True)
        for task in (*plan.slots[slot], *others)
        if task.name in tried.search
    ]
    passed = tried.skip | tried.search
    own = [task for task in plan.slots[slot] if task.name not in passed]
    return search + own, [task for task in others if task.name not in passed and not task.retry_errors]


def run_task(submission: Submission, plan: Plan, place: Place, elements: int) -> int:
    """Run workers until one ends by itself; returns its exit code."""
    output_dir = submission.folder.parent.parent.parent
    report_file = submission.report_file(place.slot)
    if plan.device == "mps":
        return _run_alone(output_dir, submission, plan, place, elements)
    witness = Witness(
        report_file,
        stall_file(submission, place.slot),
        task=str(TaskId(plan.submission, place.slot)),
        node=place.node,
        impatient=not place.shared,
        last_look=last_look(place, plan),
    )
    tried = Tried()
    idle_lives = 0
    report = read_progress(report_file) or Progress(node=place.node, gpu=place.gpu, started=time.time())
    tries_before = len(report.tries)
    while True:
        clips_before, lives_tries = report.clips, len(report.tries)
        activities = Activities(plan.clip_timeout)
        worker = partial(_work, output_dir, submission, plan, place, elements, tried, report, activities)
        end = witness.watch(worker, activities)
        if not isinstance(end, Death):
            return end
        report = read_progress(report_file) or report
        dead = write_down_death(report, output_dir, end, asked=witness.asked and not witness.out_of_time)
        write_progress(report_file, report)
        if report.clips > clips_before or any(attempt.came_on for attempt in report.tries[lives_tries:]):
            idle_lives = 0
        elif not any(
            attempt.several for attempt in dead
        ):  # else the next worker finds out whether it is a clip or the machine
            idle_lives += 1
        if witness.asked or witness.out_of_time or not may_go_on(end, dead) or idle_lives >= IDLE_LIVES:
            return 1
        tried = what_was_tried(report.tries[tries_before:])


def _run_alone(output_dir: Path, submission: Submission, plan: Plan, place: Place, elements: int) -> int:
    """Work in this process, without a witness: Metal does not work in a forked process that runs no other program.

    What kills the worker then counts against no clip, only against the tar.
    """
    report = read_progress(submission.report_file(place.slot)) or Progress(
        node=place.node, gpu=place.gpu, started=time.time()
    )
    activities = Activities(plan.clip_timeout)
    with ended_when_stuck(activities):
        return _work(output_dir, submission, plan, place, elements, Tried(), report, activities, lambda: False)


def _work(
    output_dir: Path,
    submission: Submission,
    plan: Plan,
    place: Place,
    elements: int,
    tried: Tried,
    report: Progress,
    activities: Activities,
    asked: Callable[[], bool],
) -> int:
    """What the worker process does. Returns its exit code."""
    if place.gpu is not None and plan.device != "mps":
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(place.threads)

    workers = plan.processes if place.shared else elements
    guard = DEFAULT_GUARD if plan.memory_guard is None else plan.memory_guard
    stop = StopFlag(stop_time(place, plan), shortage=MemoryGuard(guard, workers))
    with stop.on_signals():
        if asked():
            stop.signal = signal.SIGTERM
        own, others = work_lists(plan, place.slot, elements, tried)
        reports = ProgressFile(
            submission.report_file(place.slot),
            total_bytes=sum(task.bytes for task in own),
            progress=report,
            write_seconds=REPORT_SECONDS[place.shared],
        )
        reports.publish(now=True)
        try:
            with output_files(output_dir):
                spec = read_spec(output_dir)
            if spec is None or spec.fingerprint != plan.fingerprint:
                raise UsageError(f"{output_dir}: its spec is not the one that {submission.plan_file} was made for")
            run_tars(
                own,
                msgspec.structs.replace(spec, options=plan.options),
                output_dir,
                device=plan.device if plan.device in ("cpu", "mps") else "cuda:0",  # never fall back to the CPU
                stop=stop,
                reports=reports,
                wishes=Wishes(
                    allow_missing_end=plan.allow_missing_end, allow_joined=plan.allow_joined, allow_pipe=plan.allow_pipe
                ),
                crew=Crew(str(TaskId(plan.submission, place.slot)), plan.knows_gone, others),
                feeding=feeding_of(place, plan),
                activities=activities,
            )
        except Tar2TokensError as error:
            log.error("%s", error)
            if isinstance(error, StorageError):
                reports.progress.tell_of_storage([task.name for task in (*own, *others)], str(error), error.trouble)
                reports.publish_at_last(stop)
            if not isinstance(error, InfrastructureError):  # run_tars has reported those
                reports.progress.problems.append(("", str(error)))
                reports.publish(now=True)
            return error.exit_code
    log.info("yielded" if stop() else "done: no tar of this submission is left to take")
    return 1 if reports.progress.problems else 0


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments, find this process's place, and run."""
    parser = command_parser(
        "One worker process of a task. hpc.submit and hpc.resume start it; there is no need to run it by hand."
    )
    parser.add_argument("plan_file", type=Path)
    parser.add_argument("--elements", type=int, required=True, help="array tasks of the plan that were submitted")
    parser.add_argument("--started", type=float, help="when the job began, in seconds since the epoch; default now")
    parser.add_argument("--element", type=int, help="index of this task, outside Slurm")
    parser.add_argument(
        "--umask", type=partial(int, base=8), help="umask of what it creates, in octal; default 022 or stricter"
    )
    parser.add_argument("--gpu", default="none", help="CUDA_VISIBLE_DEVICES, or none")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    os.umask(private_umask() if given.umask is None else given.umask)  # setup lines may have changed it
    setup_logging(verbose=False)
    submission = Submission(given.plan_file.parent)
    plan = submission.read_plan()
    if plan is None:
        log.error("%s: no such plan; is this the file system that it was submitted from?", given.plan_file)
        return 1
    place: Place | None
    if given.element is None:
        place = place_in_slurm(os.environ, plan, visible_gpus(), available_cores(), given.started or time.time())
    else:
        gpu = None if given.gpu == "none" else given.gpu
        place = Place(given.element, socket.gethostname(), gpu, given.threads, ends_at=None, shared=False)
    if place is None:
        log.info("nothing to do: the plan has fewer parts than this job has processes")
        return 0
    if plan.training is not None:
        gpus = _gpus_in_slurm(os.environ, visible_gpus()) if place.shared else visible_gpus()
        log.info("submission %d, on %s, %s", plan.submission, place.node, counted(plan.ranks, "rank"))
        return run_training(submission, plan, Seat(place.node, gpus, place.threads, stop_time(place, plan)))
    log.info("submission %d, slot %d, on %s, GPU %s", plan.submission, place.slot, place.node, place.gpu or "none")
    return run_task(submission, plan, place, given.elements)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
