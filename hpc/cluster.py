"""The only file that talks to submitit and Slurm, but for the questions of tools.doctor."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from hpc.launch import Launch
from hpc.plan import stop_margin_s
from hpc.submissions import Job, Submission

__all__ = [
    "CALL_SECONDS",
    "Cluster",
    "JobSeen",
    "SlurmCluster",
    "SubmitLimitError",
    "SubmitUncertainError",
    "TaskSeen",
    "batch_text",
    "check_path",
    "is_submit_limit",
    "task_environment",
]

log = logging.getLogger("tar2tokens")

CALL_SECONDS = 60.0
"""Slurm's own commands give up after some tens of seconds."""
NO_COMMAND = 127
NO_COMMAND_WORDS = "is this a node that may submit? Slurm's commands have to be on the PATH"
CLOCK_SLACK_SECONDS = 3600.0
WATCHED_LIMIT_MIN = 10
"""Below that Slurm's warning, which it sends up to a minute early, would cost too much: tasks watch the clock anyway."""
NO_ANSWER_WORDS = re.compile(r"timed out|[Uu]nable to contact|[Cc]onnection|Zero Bytes|Unexpected message")
"""Whatever sbatch said before that: the job may have been taken."""
NEVER_WORDS = re.compile(r"Per(Job|Node)|Wall|NotSatisfied")
"""Of a limit that this job will break tomorrow too."""
LIMIT_WORDS = re.compile(r"MaxSubmit|GrpSubmit|job submit limit|MaxJobCount|QOSMax\w*PerUser|Assoc\w*Limit|temporarily")
REFUSED_WORDS = re.compile(
    r"[Ii]nvalid|not available|can not be satisfied|[Uu]nrecognized|permitted|[Aa]ccess.*denied|specification"
)


def is_submit_limit(words: str) -> bool:
    """Whether sbatch speaks of a limit that passes."""
    return bool(LIMIT_WORDS.search(words)) and not NEVER_WORDS.search(words)


class SubmitLimitError(Tar2TokensError):
    """Slurm takes no more jobs for now. No trouble: the rest waits."""


class SubmitUncertainError(InfrastructureError):
    """Nobody knows whether the job was submitted. Its name has to be looked up before anyone tries again."""


class TaskSeen(msgspec.Struct, frozen=True):
    """An array task that has not ended."""

    state: str
    """`RUNNING`, `PENDING` and so on."""
    node: str = ""
    reason: str = ""


class JobSeen(msgspec.Struct, frozen=True):
    """What is there of one submission's job; `tasks` maps elements to those that have not ended."""

    job_id: str
    tasks: dict[int, TaskSeen]


class Cluster(Protocol):
    """Where tasks run: Slurm, or this machine."""

    def max_array(self) -> int:
        """How many elements one array may have."""

    def slots(self, launch: Launch, tars: int) -> int | None:
        """Over how many workers so many tars are spread; None where that is the plan's to say."""

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """Submission -> its job. None for a job that nobody has heard of; what cannot be told now is left out."""

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> str:
        """Submit, and return the job's id. Raises SubmitLimitError, SubmitUncertainError, or UsageError if refused."""

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """Submission -> element -> how it ended; what nobody knows is left out."""

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Keep the tasks of these jobs that have not begun away from nodes."""

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """End the tasks, or those that have not begun, each after what it has in hand if that is quick."""


def check_path(output_dir: Path) -> None:
    """Raise UsageError if submitit or Slurm would take a part of the path for its own."""
    if "%" in str(output_dir) or "\\" in str(output_dir) or "\n" in str(output_dir):
        raise UsageError(
            f"--output-dir {output_dir}: Slurm gives % and \\ in paths a meaning of its own: choose another folder"
        )


def task_environment(launch: Launch) -> dict[str, str]:
    """What Slurm's commands and the tasks get: this process's variables, under those kept from whoever submitted (cron has
    a PATH too, but a bare one).

    Without those of a job that we may be in ourselves: srun would take them for its own.
    """
    found = {
        name: value
        for name, value in {**os.environ, **launch.environment}.items()
        if not name.startswith(("SLURM_", "SBATCH_", "SRUN_")) or name == "SLURM_CONF"
    }
    root = str(Path(__file__).resolve().parent.parent)
    paths = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
    found["PYTHONPATH"] = os.pathsep.join([root, *paths])
    return found


def batch_text(submission: Submission, launch: Launch, job: Job, exclude: Collection[str] = ()) -> str:
    """What sbatch gets, written by submitit; only the command is ours.

    submitit's own command would unpickle a function from a file that is put in place after sbatch has answered: tasks of
    an array whose submitter died in between, or whose sbatch said that it had failed, would never find theirs.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    limit_min = launch.time_limit_min
    avoided = [*filter(None, [str(launch.slurm.get("exclude", ""))]), *sorted(exclude)]
    cpus = max(1, launch.cpus_per_gpu // launch.procs_per_gpu) if launch.cpus_per_gpu else None
    srun = ["--kill-on-bad-exit=0", "--wait=0"]  # one worker's end is not the end of the others
    if cpus:
        srun.append(f"--cpus-per-task={cpus}")  # which srun does not take from the job since Slurm 22.05
    gpus = f"{launch.gpu_type}:{launch.gpus_per_node}" if launch.gpu_type else launch.gpus_per_node
    command = [sys.executable, "-u", "-m", "hpc.task", str(submission.plan_file), "--elements", str(job.elements)]
    parameters: dict[str, Any] = {
        "command": f'{shlex.join(command)} --started "$job_started"',
        "folder": submission.logs,
        "job_name": job.name,
        "map_count": job.elements,
        "array_parallelism": job.parallel,
        "time": limit_min,
        "ntasks_per_node": launch.processes,
        "cpus_per_task": cpus,
        "gpus_per_node": gpus or None,
        "wckey": None,  # submitit would set its own name, which a site with keys refuses
        "mem_per_gpu": launch.mem_per_gpu if launch.gpus_per_node else None,
        "mem": None if launch.gpus_per_node else launch.mem_per_gpu,
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "signal_delay_s": round(stop_margin_s(60 * limit_min)) if limit_min >= WATCHED_LIMIT_MIN else 0,
        "stderr_to_stdout": True,
        "setup": ["printf -v job_started '%(%s)T' -1", *launch.setup],  # Slurm tells a job when it ends since 23.02 only
        "srun_args": srun,
        "additional_parameters": {
            "no-requeue": True,  # the controller knows better what is left
            "chdir": str(submission.folder),
            **launch.slurm,
            **({"exclude": ",".join(avoided)} if avoided else {}),
        },
    }
    return _make_sbatch_string(**parameters)


class SlurmCluster:
    """Slurm, by its commands."""

    def __init__(self, environment: Mapping[str, str], patience_s: float = CALL_SECONDS) -> None:
        self._environment = dict(environment)
        self._patience_s = patience_s

    def _call(self, *argv: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 (an argv list; no shell)
                argv,
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                env=self._environment,
                timeout=self._patience_s,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, -1, "", f"no answer in {self._patience_s:g} s")
        except OSError as error:
            return subprocess.CompletedProcess(argv, NO_COMMAND, "", f"{argv[0]}: {error.strerror}")

    def max_array(self) -> int:
        """The site's MaxArraySize. Raises SubmitUncertainError if nobody answers: a guess might be refused for good."""
        answer = self._call("scontrol", "show", "config")
        if answer.returncode == NO_COMMAND:
            raise UsageError(f"{_last_line(answer)}: {NO_COMMAND_WORDS}")
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", answer.stdout)
        if answer.returncode != 0 or found is None:
            raise SubmitUncertainError(f"scontrol show config: {_last_line(answer)}: nothing is submitted for now")
        return max(1, int(found[1]))

    def slots(self, launch: Launch, tars: int) -> None:
        """As many as the plan wants: Slurm queues them."""

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """One squeue for all jobs, by their names: that finds those too whose sbatch never told their id."""
        numbers = {job.name: number for number, (_, job) in jobs.items()}
        if not numbers:
            return {}
        answer = self._call("squeue", "--noheader", "--array", f"--name={','.join(numbers)}", "--format=%j|%F|%K|%T|%N|%r")
        if answer.returncode != 0:
            log.warning("squeue: %s; what runs is not known for now", _last_line(answer))
            return {}
        return parse_squeue(answer.stdout, numbers)

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> str:
        """Hand the array to sbatch."""
        text = batch_text(submission, launch, job, exclude)
        submission.script_file.write_text(text, encoding="utf-8")
        submission.logs.mkdir(exist_ok=True)
        return self._sbatch(text=text)

    def submit_script(self, name: str, text: str, *options: str) -> str:
        """Submit a job that is no array; returns its id. Raises as `submit` does."""
        return self._sbatch(f"--job-name={name}", *options, text=text)

    def find_jobs(self, name: str, *, pending: bool = False) -> list[str]:
        """Ids of the jobs of this name that have not ended, or not even begun. Raises InfrastructureError if squeue does not
        answer.
        """
        states = ["--states=PENDING"] if pending else []
        answer = self._call("squeue", "--noheader", f"--name={name}", "--format=%A", *states)
        if answer.returncode != 0:
            raise InfrastructureError(f"squeue: {_last_line(answer)}; try again")
        return answer.stdout.split()

    def wait_for_jobs(self, job_id: str, others: Sequence[str]) -> None:
        """Have a job that has not begun start as soon as these have ended, however they end."""
        dependency = f"afterany:{':'.join(others)}"
        answer = self._call("scontrol", "update", f"JobId={job_id}", f"Dependency={dependency}", "StartTime=now")
        if answer.returncode != 0:
            log.warning("scontrol: %s; job %s starts when it was to start anyway", _last_line(answer), job_id)

    def _sbatch(self, *options: str, text: str) -> str:
        answer = self._call("sbatch", "--parsable", *options, text=text)
        words = answer.stderr.strip()
        found = re.search(r"^(\d+)(;|$)", answer.stdout.strip(), re.MULTILINE)
        if answer.returncode == 0 and found:
            return found[1]
        if answer.returncode == 1 and not answer.stdout.strip() and not NO_ANSWER_WORDS.search(words):
            if is_submit_limit(words):
                raise SubmitLimitError(words)
            if REFUSED_WORDS.search(words) or NEVER_WORDS.search(words):
                raise UsageError(f"sbatch refused the job: {words}")
        if answer.returncode == NO_COMMAND:
            raise UsageError(f"{words}: {NO_COMMAND_WORDS}")
        raise SubmitUncertainError(f"sbatch: {_last_line(answer)}: its job will be looked up by name")

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """One sacct; where there is no accounting, nothing."""
        numbers = {job.job_id: number for number, job in jobs.items() if job.job_id}
        if not numbers:
            return {}
        # Without a start sacct looks back to midnight only.
        since = datetime.fromtimestamp(min(job.intended_at for job in jobs.values()) - CLOCK_SLACK_SECONDS).astimezone()
        answer = self._call(
            "sacct",
            "--allocations",
            "--noheader",
            "--parsable2",
            f"--starttime={since:%Y-%m-%dT%H:%M:%S}",
            f"--jobs={','.join(numbers)}",
            "--format=JobID,State",
        )
        return parse_sacct(answer.stdout, numbers) if answer.returncode == 0 else {}

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Best effort: the next submission excludes them anyway."""
        for job in jobs:
            if job.job_id:
                self._call("scontrol", "update", f"JobId={job.job_id}", f"ExcNodeList={','.join(sorted(nodes))}")

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """scancel, by name where nobody has learned the id. Raises InfrastructureError if Slurm does not take the order."""
        only = ["--state=PENDING"] if pending_only else []
        known = [job.job_id for _, job in jobs.values() if job.job_id]
        if known:
            self.cancel_jobs([*only, *known])
        for _, job in jobs.values():
            if not job.job_id:
                self.cancel_jobs([*only, f"--name={job.name}"])

    def cancel_jobs(self, which: Sequence[str]) -> None:
        """End jobs, SIGTERM first. Raises InfrastructureError if Slurm does not take the order."""
        if which:
            answer = self._call("scancel", "--quiet", *which)
            if answer.returncode != 0:
                raise InfrastructureError(f"scancel: {_last_line(answer)}: tasks may still run; try again")


def parse_squeue(text: str, numbers: Mapping[str, int]) -> dict[int, JobSeen | None]:
    """Lines of `name|array job|element|state|node|reason` -> submission -> its job."""
    found: dict[int, JobSeen | None] = dict.fromkeys(numbers.values())
    for line in text.splitlines():
        fields = line.strip().split("|", 5)
        if len(fields) != 6 or fields[0] not in numbers or not fields[2].isdigit():
            continue
        name, job_id, element, state, node, reason = fields
        seen = found[numbers[name]] or JobSeen(job_id, {})
        seen.tasks[int(element)] = TaskSeen(state, node, "" if reason == "None" else reason)
        found[numbers[name]] = seen
    return found


def parse_sacct(text: str, numbers: Mapping[str, int]) -> dict[int, dict[int, str]]:
    """Lines of `5_3|CANCELLED by 0` -> submission -> element -> `CANCELLED`; ranges of elements too."""
    found: dict[int, dict[int, str]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\d+)_(\d+|\[[\d,\-%]+\])\|(\w+).*", line.strip())
        if match is None or match[1] not in numbers:
            continue
        for element in _elements(match[2]):
            found.setdefault(numbers[match[1]], {})[element] = match[3]
    return found


def _elements(text: str) -> list[int]:
    """`3` or `[1,4-6%2]` -> numbers."""
    elements: list[int] = []
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        elements.extend(range(int(first), int(last or first) + 1))
    return elements


def _last_line(answer: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {answer.returncode}"
