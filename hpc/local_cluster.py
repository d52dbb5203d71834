"""A cluster of one machine: each array task is a process, which outlives the command that started it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from hpc.cluster import JobNumber, JobSeen, TaskSeen
from hpc.environment import task_environment
from hpc.launch import Launch
from hpc.submissions import Job, Submission
from hpc.task_id import parse_task_command, parse_task_line
from jobs.claims import STALE_SECONDS, seconds_silent
from jobs.devices import available_cores, gpus_of
from jobs.fileops import FileOps
from jobs.run_module import module_command

__all__ = ["LocalCluster", "Placement", "place_workers"]

LOCAL_JOB = "local"
PROC = Path("/proc")
PS = ("ps", "-A", "-ww", "-o", "pid=", "-o", "uid=", "-o", "command=")


class Placement(msgspec.Struct, frozen=True):
    """The device and cores of one worker."""

    gpu: str | None
    """Its CUDA_VISIBLE_DEVICES, `mps`, or None for the CPU."""
    threads: int
    """Threads that it may use."""


def place_workers(gpus: Sequence[str], workers: int | None, procs_per_gpu: int, cores: int, tars: int) -> list[Placement]:
    """`procs_per_gpu` workers per GPU; on CPUs `workers`, or one per core. Never more than tars, nor than `workers`.

    They share the cores. With fewer workers than places, each GPU gets one before any gets two.
    """
    places: list[str | None] = [gpu for _ in range(procs_per_gpu) for gpu in gpus] or [None] * (workers or cores)
    places = places[: min(workers or len(places), tars)]
    return [Placement(gpu, max(1, cores // len(places))) for gpu in places]


_BEGUN: list[subprocess.Popen[bytes]] = []
"""Workers started by this process, kept while it lives: one may still be exiting when its run is finished."""


class LocalCluster:
    """Processes of this machine, found by their command lines, which name their plan."""

    def __init__(self, host: str, stop: Callable[[], bool] = lambda: False) -> None:
        self._host = host
        self._stop = stop
        self._children: list[subprocess.Popen[bytes]] = []

    def max_array(self, launch: Launch) -> int:
        """No limit in practice."""
        del launch
        return 1 << 20

    def slots(self, launch: Launch, tars: int) -> int:
        """One per worker that this machine has room for."""
        return len(self.placements(launch, tars))

    def placements(self, launch: Launch, tars: int) -> list[Placement]:
        """Where workers for `tars` tars would run."""
        return place_workers(gpus_of(launch.device), launch.workers, launch.procs_per_gpu, available_cores(), tars)

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """The processes of these submissions on this machine. Those of another machine end by long silence."""
        for child in self._children:
            child.poll()  # reap those that have ended
        found: dict[int, JobSeen | None] = {}
        running = list(_task_processes())
        for number, (submission, job) in jobs.items():
            if job.host != self._host:
                if not _shows_no_life(submission):
                    continue
                found[number] = JobSeen(job.job_id, {})
                continue
            plan_file = str(submission.plan_file)
            tasks = {
                task.element: TaskSeen("RUNNING", self._host)
                for task in running
                if task.plan_file == plan_file and task.uid == _owner(submission)
            }
            found[number] = JobSeen(LOCAL_JOB, tasks) if tasks or job.job_id else None
        return found

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        """Start one process per element, unless interrupted."""
        if self._host in exclude:
            raise UsageError(
                f"tries fail on this machine ({self._host}) and succeed on others: {called('tools.failures')} says how; "
                f"once that is fixed, {called('hpc.resume')} --retry-quarantined continues here"
            )
        submission.logs.mkdir(exist_ok=True)
        environment = task_environment(launch)
        for element, place in enumerate(self.placements(launch, job.elements)):
            if self._stop():
                break
            log_file = submission.log_file(LOCAL_JOB, element, 0)
            command = module_command("hpc.task", submission.plan_file, "--elements", job.elements)
            command += ["--umask", launch.umask] if launch.umask else []
            command += ["--element", str(element), "--gpu", place.gpu or "none", "--threads", str(place.threads)]
            with log_file.open("ab") as log:
                child = subprocess.Popen(  # noqa: S603 (our own module)
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches only us: we ask the workers to stop
                )
            self._children.append(child)
            _BEGUN.append(child)
        return JobNumber(LOCAL_JOB)

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """There is no accounting here: the tasks' reports say how they ended."""
        del jobs
        return {}

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Nothing to do: there is only one node."""

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """Ask each task to finish what the device has in hand, flush and exit. None is ever pending here."""
        if not pending_only:
            self._signal(jobs, signal.SIGTERM)

    def kill(self, jobs: Mapping[int, tuple[Submission, Job]]) -> None:
        """Kill the tasks. Their partials stay valid, and their claims belong to dead processes."""
        self._signal(jobs, signal.SIGKILL)

    def _signal(self, jobs: Mapping[int, tuple[Submission, Job]], number: signal.Signals) -> None:
        owners = {str(submission.plan_file): _owner(submission) for submission, _ in jobs.values()}
        for task in _task_processes():
            if task.plan_file in owners and task.uid == owners[task.plan_file]:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(task.pid, number)


class _TaskProcess(NamedTuple):
    """A process whose command line is that of a task. Any user can start one that looks like it."""

    pid: int
    uid: int
    plan_file: str
    element: int


def _task_processes() -> Iterator[_TaskProcess]:
    """Every task on this machine, both its witness and its worker."""
    if not (PROC / "self").exists():
        yield from _listed_by_ps()
        return
    for entry in os.scandir(PROC):
        if not entry.name.isdigit():
            continue
        try:
            words = Path(entry.path, "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
            uid = entry.stat().st_uid
        except OSError:  # it has ended, or we may not see it
            continue
        if (task := parse_task_command(words)) is not None:
            yield _TaskProcess(int(entry.name), uid, *task)


def _listed_by_ps() -> Iterator[_TaskProcess]:
    """The same where there is no /proc, as on a Mac."""
    listed = subprocess.run(PS, capture_output=True, text=True, errors="surrogateescape", check=False)  # noqa: S603
    if listed.returncode:
        raise InfrastructureError(f"{' '.join(PS)}: expected the processes of this machine: {listed.stderr.strip()}")
    for line in listed.stdout.splitlines():
        pid, uid, command = line.split(maxsplit=2)
        if (task := parse_task_line(command)) is not None:
            yield _TaskProcess(int(pid), int(uid), *task)


def _owner(submission: Submission) -> int | None:
    """The user who submitted. Tasks are processes of that user; those of others only look like tasks."""
    try:
        return submission.folder.stat().st_uid
    except OSError:
        return None


def _shows_no_life(submission: Submission) -> bool:
    """Whether no task of another machine has touched its report for STALE_SECONDS, by the file system's clock."""
    try:
        reports = list((submission.folder / "tasks").glob("*.json")) or [submission.job_file]
        return min(seconds_silent(FileOps(), report) for report in reports) > STALE_SECONDS
    except OSError:
        return False
