"""The files of each submission: its plan, its job, its tasks' reports, and the digest once all tasks have ended."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.plan import Plan
from hpc.slurm_words import ENDED, from_outside, node_was_lost
from jobs.any_json import decode_json
from jobs.fileops import FileOps, speaks_of_storage, write_atomically, write_if_absent
from jobs.progress import UNENDED, Progress, read_progress

OUT_OF_MEMORY = "OUT_OF_MEMORY"
TAIL_BYTES = 4096
NUMBER = re.compile(r"[0-9]{4,9}")

Kind = TypeVar("Kind", bound=msgspec.Struct)

__all__ = ["Digest", "Job", "Submission", "TaskEnd", "read_submissions"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The job array of one submission. Written before sbatch is called, and again when its answer is known."""

    name: str
    """Unique, so that the job can be looked up if sbatch failed or never answered."""
    elements: int
    parallel: int
    """How many of them may run at once."""
    host: str
    """The host that submitted it; for `--cluster local`, where it runs."""
    intended_at: float
    """Seconds since the epoch."""
    state: Literal["intended", "submitted", "refused"] = "intended"
    job_id: str = ""
    cluster: str | None = None
    """The clusters that have it, or may have taken it, in the form of `--clusters`; empty where none was named, None in
    files of versions that did not record it.
    """
    answered_at: float = 0.0
    """When sbatch answered or timed out."""
    gone_at: float = 0.0
    """When it was first seen to have ended while accounting did not say how; 0 if it did at once."""
    words: str = ""
    """What sbatch said, unless it simply submitted."""
    full: bool = False
    """It was refused because the queue was full; there may be room later."""
    round: int = 0
    """The first submission of the round that made it; 0 if it is the first."""
    in_queue: int = 0
    """The run's array tasks that were queued before it."""


class TaskEnd(msgspec.Struct, frozen=True):
    """The final report of one worker process."""

    slot: int
    progress: Progress


class Digest(msgspec.Struct, frozen=True):
    """A submission that has ended."""

    ends: list[TaskEnd]
    silent: int
    """Tasks that exited before starting work: they have a log and no report. Without those that were stopped from outside,
    lost their node, or are `wordless`.
    """
    wordless: int = 0
    """Such tasks whose logs are empty or mention storage that is full or away: there may have been no room for a report."""
    states: dict[str, int] = {}
    """State -> number of the array's tasks that ended in it, where Slurm could tell."""
    stopped: bool = False
    """Every task that had begun was cancelled or preempted: that nothing came of it means nothing."""


@dataclass(frozen=True)
class Submission:
    """One submission's folder."""

    folder: Path

    @property
    def number(self) -> int:
        """Counted from 1."""
        return int(self.folder.name)

    @property
    def plan_file(self) -> Path:
        """Never changes."""
        return self.folder / "plan.json"

    @property
    def job_file(self) -> Path:
        """See Job."""
        return self.folder / "jobs.json"

    @property
    def script_file(self) -> Path:
        """The script that sbatch got."""
        return self.folder / "array.sh"

    @property
    def logs(self) -> Path:
        """The tasks' output: `JOB_ELEMENT_RANK_log.out`."""
        return self.folder / "logs"

    @property
    def digest_file(self) -> Path:
        """Written once all tasks have ended."""
        return self.folder / "ended.json"

    def report_file(self, slot: int) -> Path:
        """The report of one worker process."""
        return self.folder / "tasks" / f"{slot:05}.json"

    def log_file(self, job_id: str, element: int, rank: int) -> Path:
        """The output of one worker process; submitit names it so."""
        return self.logs / f"{job_id}_{element}_{rank}_log.out"

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, once. Raises InfrastructureError if there is one."""
        if not write_if_absent(FileOps(), self.plan_file, msgspec.json.format(msgspec.json.encode(plan))):
            raise InfrastructureError(f"{self.plan_file} exists already: another command took this submission")

    def read_plan(self) -> Plan | None:
        """The plan, or None if the process that made the folder died before it wrote one."""
        return _read(self.plan_file, Plan)

    def write_job(self, job: Job) -> None:
        """Write what is known about the job."""
        write_atomically(FileOps(), self.job_file, msgspec.json.format(msgspec.json.encode(job)))

    def read_job(self) -> Job | None:
        """What is known about the job, or None if none was intended."""
        return _read(self.job_file, Job)

    def reports(self, slots: Iterable[int]) -> dict[int, Progress]:
        """The reports of these slots' workers, as far as there are any."""
        found = {slot: read_progress(self.report_file(slot)) for slot in slots}
        return {slot: progress for slot, progress in found.items() if progress is not None}

    def read_digest(self) -> Digest | None:
        """The digest, or None while tasks may be alive."""
        return _read(self.digest_file, Digest)

    def close(self, plan: Plan, states: Mapping[int, str]) -> Digest:
        """Once all tasks have ended, write what matters about them to one file. `states`: element -> Slurm's final state.

        Where the kernel ends a whole job for its memory, no witness is left; then Slurm's state is used.
        """
        reports = self.reports(range(len(plan.slots)))
        for slot, report in reports.items():
            if states.get(slot // plan.processes) != OUT_OF_MEMORY:
                continue
            for attempt in report.tries:
                if attempt.outcome in UNENDED:
                    attempt.several = attempt.outcome == "working" and not attempt.alone
                    attempt.outcome = "died"
                    attempt.problem = f"Slurm ended the job: {OUT_OF_MEMORY}; ask for more with --mem-per-gpu"
        ends = [TaskEnd(slot, report) for slot, report in reports.items()]
        silent, idle, outside = self._vain(plan, reports, states)
        logs = self._logs_by_element()
        silent = {one for one in silent - outside if not node_was_lost(states.get(one), partial(_tails, logs.get(one, ())))}
        wordless = {one for one in silent if _says_nothing(_tails(logs.get(one, ())))}
        digest = Digest(
            ends,
            silent=len(silent - wordless),
            wordless=len(wordless),
            states=dict(Counter(states.values())),
            stopped=bool(idle) and outside >= idle,
        )
        write_atomically(FileOps(), self.digest_file, msgspec.json.encode(digest))
        return digest

    def lacks_states(self, plan: Plan, states: Mapping[int, str]) -> bool:
        """Whether `states` does not yet say how some tasks ended that achieved nothing."""
        silent, idle, outside = self._vain(plan, self.reports(range(len(plan.slots))), states)
        return any(states.get(element) not in ENDED for element in (silent | idle) - outside)

    def _vain(
        self, plan: Plan, reports: Mapping[int, Progress], states: Mapping[int, str]
    ) -> tuple[set[int], set[int], set[int]]:
        """Three sets of elements: those that started and never reported; all that left a trace, if no task made progress;
        and those of both that were ended from outside.
        """
        logs = self._logs_by_element()
        silent = logs.keys() - {slot // plan.processes for slot in reports}
        in_vain = not any(attempt.came_on for report in reports.values() for attempt in report.tries)
        idle = set(logs.keys() | states.keys()) if in_vain else set()
        outside = {one for one in silent | idle if from_outside(states.get(one), partial(_tails, logs.get(one, ())))}
        return silent, idle, outside

    def _logs_by_element(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for element, _rank, path in self.log_files():
            found.setdefault(element, []).append(path)
        return found

    def log_files(self) -> list[tuple[int, int, Path]]:
        """(element, rank, file) of every log."""
        found = []
        if self.logs.is_dir():
            for path in sorted(self.logs.iterdir()):
                match = re.fullmatch(r"[^_]+_(\d+)_(\d+)_log\.out", path.name)
                if match:
                    found.append((int(match[1]), int(match[2]), path))
        return found


def read_submissions(folder: Path) -> list[Submission]:
    """All submissions of a run, oldest first."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_number(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    return [Submission(folder / name) for name in sorted(names, key=int)]


def _is_number(name: str) -> bool:
    """Whether a folder is named like a submission. Not isdigit(), which accepts digits that int() does not."""
    return NUMBER.fullmatch(name) is not None and name == f"{int(name):04}"


def _says_nothing(log: str) -> bool:
    """Whether a task that left no report may have had no room for one."""
    return not log.strip() or speaks_of_storage(log)


def _tails(logs: Iterable[Path]) -> str:
    """The ends of a task's logs, without those that cannot be read."""
    text = ""
    for log in logs:
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text += file.read().decode(errors="replace")
    return text


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return decode_json(path.read_bytes(), kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: not a file of this version of tar2tokens: {error}") from None
