"""Slurm, through its commands. No other module calls them, except for the checks of tools.doctor."""

from __future__ import annotations

import logging
import re
import subprocess
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.batch_script import batch_text
from hpc.cluster import JobNumber, JobSeen, SubmitLimitError, SubmitRefusedError, SubmitUncertainError
from hpc.launch import Launch
from hpc.slurm_words import (
    NODE_FORMAT,
    SQUEUE_FORMAT,
    job_number,
    last_line,
    no_answer,
    parse_nodes,
    parse_sacct,
    parse_squeue,
    queue_lines,
    unknown_job,
    verdict,
)
from hpc.submissions import Job, Submission

__all__ = ["CALL_SECONDS", "SlurmCluster"]

log = logging.getLogger("tar2tokens")

CALL_SECONDS = 60.0
"""Time limit of a call; Slurm's commands themselves give up after some tens of seconds."""
NO_COMMAND = 127
NO_COMMAND_WORDS = "is this a node that may submit? Slurm's commands have to be on the PATH"
GPU_HINT = "\n--gpu-request chooses how to ask for GPUs (docs/cluster.md)"
CLOCK_SLACK_SECONDS = 3600.0
DEFAULT_MAX_ARRAY = 1001
"""Slurm's own default of MaxArraySize."""


class SlurmCluster:
    """Slurm, through its commands."""

    def __init__(self, environment: Mapping[str, str], patience_s: float = CALL_SECONDS, clusters: str = "") -> None:
        """`clusters` are those of single jobs, and of arrays for which older versions recorded none."""
        self._environment = dict(environment)
        self._patience_s = patience_s
        self._clusters = clusters

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

    def check_answers(self, launch: Launch) -> None:
        """Raise InfrastructureError, quoting Slurm, if no Slurm answers."""
        answer = self._call("scontrol", *_of(_names(launch.clusters)[0]), "show", "config")
        if answer.returncode != 0 and launch.clusters and not no_answer(answer.stderr):
            answer = self._call("scontrol", "show", "config")  # sbatch will report what is wrong with --clusters
        if answer.returncode != 0:
            raise InfrastructureError(answer.stderr.strip() or f"scontrol show config: exit code {answer.returncode}")

    def has_gpus(self, launch: Launch) -> bool:
        """Whether Slurm knows of GPUs in the partition, or in any if none is named. True if it does not answer."""
        where = [f"--partition={launch.partition}"] if launch.partition else []
        answer = self._call("sinfo", *_of(launch.clusters), "--all", "--noheader", *where, "--format=%G")
        return answer.returncode != 0 or not answer.stdout.strip() or "gpu" in answer.stdout

    def nodes(self, launch: Launch) -> dict[str, str]:
        """The nodes that a job may get -> why each starts no jobs now, empty if it does: those of the partition, within
        nodelist and without exclude of the launch. Raises InfrastructureError.
        """
        found = self._nodes(launch, launch.slurm.get("nodelist"))
        excluded = self._nodes(launch, launch.slurm["exclude"]) if launch.slurm.get("exclude") else {}
        return {node: why for node, why in found.items() if node not in excluded}

    def _nodes(self, launch: Launch, within: object) -> dict[str, str]:
        which = [f"--nodes={within}"] if within else []
        words = ("sinfo", *_of(launch.clusters), "--all", "--noheader", "--Node", *which, f"--format={NODE_FORMAT}")
        answer = self._call(*words)
        if answer.returncode != 0:
            raise InfrastructureError(f"sinfo: {_last_line(answer)}: which nodes there are is not known; try again")
        return parse_nodes(answer.stdout, launch.partition)

    def max_array(self, launch: Launch) -> int:
        """The site's MaxArraySize. Raises SubmitUncertainError without an answer: a guess might be refused for good."""
        return min(self._max_array(name) for name in _names(launch.clusters))

    def _max_array(self, cluster: str) -> int:
        answer = self._call("scontrol", *_of(cluster), "show", "config")
        if answer.returncode == NO_COMMAND:
            raise UsageError(f"{_last_line(answer)}: {NO_COMMAND_WORDS}")
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", answer.stdout)
        if answer.returncode == 0 and found is not None:
            return max(1, int(found[1]))
        if answer.returncode <= 0 or no_answer(answer.stderr):
            raise SubmitUncertainError(f"scontrol show config: {_last_line(answer)}: nothing is submitted for now")
        log.info("scontrol show config: %s", _last_line(answer))
        return self._max_array("") if cluster else DEFAULT_MAX_ARRAY  # if that is wrong, sbatch will say so

    def slots(self, launch: Launch, tars: int) -> None:
        """None: Slurm queues as many as the plan has."""

    def look(self, jobs: Mapping[int, tuple[Submission, Job]]) -> dict[int, JobSeen | None]:
        """Call squeue once per cluster for all known job ids, and once by name for jobs that it does not show.

        A job whose sbatch never returned its id is found by its name.
        """
        groups: dict[str, dict[int, Job]] = defaultdict(dict)
        for number, (_, job) in jobs.items():
            groups[self._cluster_of(job)][number] = job
        found: dict[int, JobSeen | None] = {}
        for clusters, group in groups.items():
            answers = [self._look_in(name, group) for name in _names(clusters)]
            for number in group:
                seen = [answer[number] for answer in answers if number in answer]
                here = next((one for one in seen if one is not None), None)
                if here is not None or len(seen) == len(answers):
                    found[number] = here
        return found

    def _cluster_of(self, job: Job) -> str:
        return self._clusters if job.cluster is None else job.cluster

    def _look_in(self, cluster: str, jobs: Mapping[int, Job]) -> dict[int, JobSeen | None]:
        numbers = {job.job_id: number for number, job in jobs.items() if self._is_told(job)}
        answer = self._queue(cluster, f"--jobs={','.join(numbers)}") if numbers else ""
        if answer is None:
            return {}
        seen = parse_squeue(answer, numbers, {}, cluster)
        names = {job.name: number for number, job in jobs.items() if number not in seen}
        answer = self._queue(cluster, f"--name={','.join(names)}") if names else ""
        if answer is None:
            return dict(seen)
        return dict.fromkeys(jobs) | seen | parse_squeue(answer, {}, names, cluster)

    def _is_told(self, job: Job) -> bool:
        """Whether its id identifies the job. Several clusters may each have a job of that number."""
        return bool(job.job_id) and "," not in self._cluster_of(job) and self._cluster_of(job) != "all"

    def _queue(self, cluster: str, which: str) -> str | None:
        """The output of squeue, hidden partitions included; None if it does not answer twice, or hangs once."""
        words = ("squeue", *_of(cluster), "--noheader", "--all", "--array", which, f"--format={SQUEUE_FORMAT}")
        for _ in range(2):
            answer = self._call(*words)
            if answer.returncode == 0 and (answer.stdout.strip() or not no_answer(answer.stderr)):
                return answer.stdout
            if unknown_job(answer.stderr):  # an error only for a single job; of several it shows those that exist
                return ""
            if answer.returncode < 0:
                break
        log.warning("squeue: %s; which tasks run is not known for now", _last_line(answer))
        return None

    def submit(self, submission: Submission, launch: Launch, job: Job, exclude: Collection[str]) -> JobNumber:
        """Hand the array to sbatch."""
        text = batch_text(submission, launch, job, exclude)
        submission.script_file.write_text(text, encoding="utf-8")
        submission.logs.mkdir(exist_ok=True)
        return self._sbatch(text=text, clusters=launch.clusters)

    def submit_script(self, name: str, text: str, *options: str) -> JobNumber:
        """Submit a single job. Raises as `submit` does."""
        return self._sbatch(f"--job-name={name}", *options, text=text, clusters=self._clusters)

    def find_jobs(self, name: str, *, pending: bool = False) -> list[JobNumber]:
        """The jobs of this name that have not ended, or only the pending ones. Raises InfrastructureError if squeue does
        not answer.
        """
        found = []
        for cluster in _names(self._clusters):
            answer = self._queue(cluster, f"--name={name}")
            if answer is None:
                raise InfrastructureError("squeue does not answer; try again")
            lines = [line for line in queue_lines(answer) if line.name == name]
            found += [JobNumber(line.job_id, cluster) for line in lines if not pending or line.state == "PENDING"]
        return found

    def wait_for_jobs(self, job: JobNumber, others: Sequence[str]) -> None:
        """Make a pending job start as soon as these have ended, however they end."""
        dependency = f"Dependency=afterany:{':'.join(others)}"
        answer = self._call("scontrol", *_of(job.cluster), "update", f"JobId={job.job_id}", dependency, "StartTime=now")
        if answer.returncode != 0:
            log.warning("scontrol: %s; job %s starts at its original time", _last_line(answer), job.job_id)

    def _sbatch(self, *options: str, text: str, clusters: str) -> JobNumber:
        answer = self._call("sbatch", "--parsable", *options, text=text)
        words = answer.stderr.strip() or answer.stdout.strip()
        if answer.returncode == NO_COMMAND:
            raise UsageError(f"{words}: {NO_COMMAND_WORDS}")
        what = verdict(answer.returncode, answer.stdout, words)
        number = job_number(answer.stdout)
        if what == "taken" and number is not None:
            return number if number.cluster else JobNumber(number.job_id, clusters)
        if what == "limit":
            raise SubmitLimitError(words)
        if what == "refused":
            hint = GPU_HINT if re.search(r"gres\b|gpus?-per", words, re.IGNORECASE) else ""
            raise SubmitRefusedError(f"sbatch refused the job: {words}{hint}")
        raise SubmitUncertainError(f"sbatch: {_last_line(answer)}: its job will be looked up by name")

    def explain(self, jobs: Mapping[int, Job]) -> dict[int, dict[int, str]]:
        """Call sacct once per cluster. Without accounting the answer is empty."""
        groups: dict[str, dict[str, int]] = defaultdict(dict)
        for number, job in jobs.items():
            if self._is_told(job):
                groups[self._cluster_of(job)][job.job_id] = number
        if not groups:
            return {}
        # Without a start time sacct looks back only to midnight.
        since = datetime.fromtimestamp(min(job.intended_at for job in jobs.values()) - CLOCK_SLACK_SECONDS).astimezone()
        found: dict[int, dict[int, str]] = {}
        for cluster, numbers in groups.items():
            answer = self._call(
                "sacct",
                *_of(cluster),
                "--allocations",
                "--noheader",
                "--parsable2",
                f"--starttime={since:%Y-%m-%dT%H:%M:%S}",
                f"--jobs={','.join(numbers)}",
                "--format=JobID,State",
            )
            if answer.returncode == 0:
                found |= {number: {} for number in numbers.values()} | parse_sacct(answer.stdout, numbers)
        return found

    def avoid(self, jobs: Sequence[Job], nodes: Collection[str]) -> None:
        """Best effort: later submissions exclude these nodes anyway."""
        avoided = f"ExcNodeList={','.join(sorted(nodes))}"
        for job in jobs:
            if self._is_told(job):
                self._call("scontrol", *_of(self._cluster_of(job)), "update", f"JobId={job.job_id}", avoided)

    def cancel(self, jobs: Mapping[int, tuple[Submission, Job]], *, pending_only: bool = False) -> None:
        """Call scancel, by name where the id is not known. Raises InfrastructureError if it fails."""
        only = ["--state=PENDING"] if pending_only else []
        known: dict[str, list[str]] = defaultdict(list)
        named: list[tuple[str, ...]] = []
        for _, job in jobs.values():
            if self._is_told(job):
                known[self._cluster_of(job)].append(job.job_id)
            else:
                named.append((self._cluster_of(job), *only, f"--name={job.name}"))
        untaken = []
        orders = [*((cluster, *only, *ids) for cluster, ids in known.items()), *named]
        for order in orders:  # try them all: one cluster that is down does not keep tasks of the others alive
            try:
                self._cancel(*order)
            except InfrastructureError as error:
                untaken.append(error)
        if untaken:
            raise untaken[0]

    def cancel_name(self, name: str) -> None:
        """End the jobs of this name. Raises InfrastructureError if scancel fails."""
        self._cancel(self._clusters, f"--name={name}")

    def cancel_job(self, job: JobNumber) -> None:
        """End one job. Raises InfrastructureError if scancel fails."""
        self._cancel(job.cluster, job.job_id)

    def _cancel(self, cluster: str, *which: str) -> None:
        answer = self._call("scancel", *_of(cluster), "--quiet", *which)
        if answer.returncode != 0:
            raise InfrastructureError(f"scancel: {_last_line(answer)}: tasks may still run; try again")


def _names(clusters: str) -> list[str]:
    """The cluster names; one empty name for the default cluster if none is given."""
    return clusters.split(",")


def _of(clusters: str) -> list[str]:
    return [f"--clusters={clusters}"] if clusters else []


def _last_line(answer: subprocess.CompletedProcess[str]) -> str:
    return last_line(answer.stderr, answer.returncode)
