"""Pure: what the answers of Slurm's commands mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

__all__ = [
    "ENDED",
    "SQUEUE_FORMAT",
    "JobNumber",
    "JobSeen",
    "TaskSeen",
    "all_ended",
    "from_outside",
    "is_submit_limit",
    "job_number",
    "last_line",
    "no_answer",
    "parse_sacct",
    "parse_squeue",
    "queue_lines",
    "unknown_job",
    "verdict",
]

Verdict = Literal["taken", "limit", "unknown", "refused"]

NO_ANSWER_WORDS = re.compile(
    r"timed out|no answer in|[Uu]nable to contact|[Cc]onnection (?:refused|reset|timed|closed)|connect failure"
    r"|Zero Bytes were transmitted|Unexpected message|Transport endpoint is not connected|[Cc]ontroller (?:is )?in standby"
    r"|(?:Communication (?:connection|shutdown)|Message (?:send|receive)) failure"
)
"""The controller does not answer; whatever sbatch said before that, the job may have been taken."""
LIMIT_WORDS = re.compile(
    r"\b(?:Assoc|QOS)(?:Max|Grp)(?:Submit)?Jobs?\w*Limit\b|\bMaxJobCount\b"
    r"|Resource temporarily unavailable|Unable to create job record, try again"
)
"""Limits on the number of jobs, which pass. Those on what one job may be (QOSMinGRES, ...PerJob, ...Wall) do not."""
POLICY_WORDS = "job submit limit"
"""The last line of every refusal by a limit, whichever it is. Alone it says nothing better than what it names first."""
UNKNOWN_JOB_WORDS = re.compile(r"[Ii]nvalid job id")
SQUEUE_FORMAT = "%j|%F|%K|%T|%N|%r"
"""See QueueLine."""
ELEMENTS = re.compile(r"\[?\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*(?:%\d+)?\]?")
"""`3`, and what a squeue that does not know --array says of those that wait: `0-3`, `[4,6-9%2]`."""
ENDED = frozenset(
    (
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("BOOT_FAIL", "DEADLINE", "REVOKED"),
    )
)
"""States that a task does not leave again: Slurm is told not to requeue it."""
OUTSIDE = ("CANCELLED", "PREEMPTED")
LAST_WORDS = re.compile(
    r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?: DUE [Tt][Oo] (?:PREEMPTION|JOB REQUEUE|SIGNAL [^*]*?))? \*\*\*"
)
"""What slurmstepd writes into the log of a task that somebody cancels. It names other causes: a time limit, a lost node."""


class JobNumber(NamedTuple):
    """What Slurm calls a job."""

    job_id: str
    cluster: str = ""
    """The cluster that has it, where Slurm has told: sites may have several."""


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
    cluster: str = ""
    """Where it was found, if that was asked for by name."""


def is_submit_limit(words: str) -> bool:
    """Whether sbatch speaks of a limit that passes."""
    if LIMIT_WORDS.search(words):
        return True
    errors = [line for line in words.splitlines() if "error:" in line]
    return POLICY_WORDS in words and len(errors) == 1


def no_answer(words: str) -> bool:
    """Whether a command's words say that Slurm's controller did not answer, which passes."""
    return bool(NO_ANSWER_WORDS.search(words))


def unknown_job(words: str) -> bool:
    """Whether squeue says that Slurm knows of no such job (any more)."""
    return bool(UNKNOWN_JOB_WORDS.search(words))


def job_number(out: str) -> JobNumber | None:
    """The job in what sbatch printed: `4711`, `4711;other`, or the words of a site's own sbatch, which may not know
    --parsable. None if there is none.

    A site may say more, in numbers too: before the id if it is its sbatch that talks, so the last number counts.
    """
    for way in (r"Submitted batch job (\d+)(?: on cluster (\S+))?", r"^\s*(\d+);(\S+)\s*$", r"^\s*(\d+)()\s*$"):
        found = re.findall(way, out, re.MULTILINE)
        if found:
            return JobNumber(*found[-1])
    return None


def verdict(code: int, out: str, words: str) -> Verdict:
    """What an sbatch that ended with `code` has done. Only what is known to pass is not a refusal.

    `unknown`: the job may have been submitted, so it has to be looked up. So it is where an sbatch fails without a word.
    """
    number = job_number(out)
    if code == 0 and number is not None:
        return "taken"
    hung_or_killed = code < 0 or code > 128
    if number is not None or code == 0 or hung_or_killed or not words.strip() or no_answer(words):
        return "unknown"
    return "limit" if is_submit_limit(words) else "refused"


class QueueLine(NamedTuple):
    """A line of squeue, asked with SQUEUE_FORMAT."""

    name: str
    job_id: str
    element: str
    """Empty or `N/A` for a job that is no array."""
    state: str
    node: str
    reason: str


def queue_lines(text: str) -> list[QueueLine]:
    """What squeue shows of jobs that have not ended. Anything else is passed over, such as the heading of a cluster."""
    found = [line.strip().rsplit("|", len(QueueLine._fields) - 1) for line in text.splitlines()]
    lines = [QueueLine(*fields) for fields in found if len(fields) == len(QueueLine._fields)]
    return [line for line in lines if line.state not in ENDED]


def parse_squeue(text: str, by_id: Mapping[str, int], by_name: Mapping[str, int], cluster: str = "") -> dict[int, JobSeen]:
    """What squeue says -> submission -> its job, found by its id or else by its name. Other jobs may be in there too: a
    site's own squeue may not know what it is asked.
    """
    found: dict[int, JobSeen] = {}
    for line in queue_lines(text):
        number = by_id.get(line.job_id, by_name.get(line.name))
        if number is not None and ELEMENTS.fullmatch(line.element):
            seen = found.setdefault(number, JobSeen(line.job_id, {}, cluster))
            task = TaskSeen(line.state, line.node, "" if line.reason == "None" else line.reason)
            seen.tasks.update(dict.fromkeys(_elements(line.element), task))
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


def from_outside(state: str | None, log: Callable[[], str]) -> bool:
    """Whether a person, an administrator or a job of more importance ended it, which says nothing of it.

    By Slurm's accounts; where they tell of no end (there may be none, and they are late by seconds) by the end of its log.
    """
    return state in OUTSIDE if state in ENDED else bool(LAST_WORDS.search(log()))


def all_ended(states: Mapping[int, str], elements: int) -> bool:
    """Whether the accounts tell of every element of an array how it ended."""
    return all(states.get(element) in ENDED for element in range(elements))


def last_line(words: str, code: int) -> str:
    """The last line that a command said on stderr."""
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"
