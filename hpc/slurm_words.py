"""Pure: the meaning of what Slurm's commands answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

__all__ = [
    "ENDED",
    "NODE_FORMAT",
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
    "node_was_lost",
    "parse_nodes",
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
"""The controller did not answer. Whatever else sbatch said, it may have taken the job."""
LIMIT_WORDS = re.compile(
    r"\b(?:Assoc|QOS)(?:Max|Grp)(?:Submit)?Jobs?\w*Limit\b|\bMaxJobCount\b"
    r"|Resource temporarily unavailable|Unable to create job record, try again"
)
"""Limits on the number of jobs, which pass. Limits on a single job (QOSMinGRES, ...PerJob, ...Wall) do not."""
POLICY_WORDS = "job submit limit"
"""The last line of every refusal by a limit. Standing alone, it is taken for the limit it names first, that on jobs."""
UNKNOWN_JOB_WORDS = re.compile(r"[Ii]nvalid job id")
SQUEUE_FORMAT = "%j|%F|%K|%T|%N|%r"
"""See QueueLine."""
NODE_FORMAT = "%P|%N|%T"
"""Partition, with an asterisk if it is the default; node; its state."""
NODES_AWAY = re.compile(r"down|drain|fail|error|unknown|maint|reboot|inval|\*")
"""In the states of nodes that start no jobs for now; an asterisk means that the node does not respond."""
ELEMENTS = re.compile(r"\[?\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*(?:%\d+)?\]?")
"""`3`; or `0-3`, `[4,6-9%2]`, as a squeue that does not know --array shows pending elements."""
ENDED = frozenset(
    (
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("BOOT_FAIL", "DEADLINE", "REVOKED"),
    )
)
"""Final states: Slurm is told not to requeue tasks."""
OUTSIDE = ("CANCELLED", "PREEMPTED")
LAST_WORDS = re.compile(
    r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?: DUE [Tt][Oo] (?:PREEMPTION|JOB REQUEUE|SIGNAL [^*]*?))? \*\*\*"
)
"""What slurmstepd writes to the log of a cancelled or preempted task. For a time limit or a lost node it says so."""


NODE_LOST = ("NODE_FAIL", "BOOT_FAIL")
NODE_LOST_WORDS = re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ DUE TO NODE FAILURE")


class JobNumber(NamedTuple):
    """Slurm's name for a job."""

    job_id: str
    cluster: str = ""
    """The cluster that has it, if sbatch said so: sites may have several."""


class TaskSeen(msgspec.Struct, frozen=True):
    """An array task that has not ended."""

    state: str
    """`RUNNING`, `PENDING` and so on."""
    node: str = ""
    reason: str = ""


class JobSeen(msgspec.Struct, frozen=True):
    """The job of one submission. `tasks` maps the elements that have not ended to their tasks."""

    job_id: str
    tasks: dict[int, TaskSeen]
    cluster: str = ""
    """The cluster where it was found, if one was named."""


def is_submit_limit(words: str) -> bool:
    """Whether sbatch reports a limit that passes."""
    if LIMIT_WORDS.search(words):
        return True
    errors = [line for line in words.splitlines() if "error:" in line]
    return POLICY_WORDS in words and len(errors) == 1


def no_answer(words: str) -> bool:
    """Whether a command reports that Slurm's controller did not answer, which passes."""
    return bool(NO_ANSWER_WORDS.search(words))


def unknown_job(words: str) -> bool:
    """Whether squeue reports that Slurm does not know the job, or no longer."""
    return bool(UNKNOWN_JOB_WORDS.search(words))


def job_number(out: str) -> JobNumber | None:
    """The job id in sbatch's output: `4711`, `4711;other`, or a sentence of a site's own sbatch, which may not know
    --parsable. None if there is none.

    A site's wrapper may print more, numbers included, before the id, so the last match counts.
    """
    for way in (r"Submitted batch job (\d+)(?: on cluster (\S+))?", r"^\s*(\d+);(\S+)\s*$", r"^\s*(\d+)()\s*$"):
        found = re.findall(way, out, re.MULTILINE)
        if found:
            return JobNumber(*found[-1])
    return None


def verdict(code: int, out: str, words: str) -> Verdict:
    """What an sbatch that exited with `code` has done. An error is a refusal unless it is known to pass.

    `unknown`: the job may have been submitted and has to be looked up, as after an sbatch that fails without a message.
    """
    number = job_number(out)
    if code == 0 and number is not None:
        return "taken"
    hung_or_killed = code < 0 or code > 128
    if number is not None or code == 0 or hung_or_killed or not words.strip() or no_answer(words):
        return "unknown"
    return "limit" if is_submit_limit(words) else "refused"


class QueueLine(NamedTuple):
    """A line of squeue in SQUEUE_FORMAT."""

    name: str
    job_id: str
    element: str
    """Empty or `N/A` for a job that is no array."""
    state: str
    node: str
    reason: str


def queue_lines(text: str) -> list[QueueLine]:
    """The lines of squeue about jobs that have not ended. Others, such as a cluster's heading, are skipped."""
    found = [line.strip().rsplit("|", len(QueueLine._fields) - 1) for line in text.splitlines()]
    lines = [QueueLine(*fields) for fields in found if len(fields) == len(QueueLine._fields)]
    return [line for line in lines if line.state not in ENDED]


def parse_squeue(text: str, by_id: Mapping[str, int], by_name: Mapping[str, int], cluster: str = "") -> dict[int, JobSeen]:
    """Output of squeue -> submission -> its job, matched by id or else by name. Other jobs in the output are skipped: a
    site's own squeue may ignore filters.
    """
    found: dict[int, JobSeen] = {}
    for line in queue_lines(text):
        number = by_id.get(line.job_id, by_name.get(line.name))
        if number is not None and ELEMENTS.fullmatch(line.element):
            seen = found.setdefault(number, JobSeen(line.job_id, {}, cluster))
            task = TaskSeen(line.state, line.node, "" if line.reason == "None" else line.reason)
            seen.tasks.update(dict.fromkeys(_elements(line.element), task))
    return found


def parse_nodes(text: str, partition: str | None) -> dict[str, str]:
    """Lines of sinfo --Node -> node -> why it starts no jobs, empty if it does. Of these partitions, a,b, or of the default
    one.
    """
    wanted = set(partition.split(",")) if partition else None
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition("|")
        node, _, state = rest.partition("|")
        if node and (name.rstrip("*") in wanted if wanted else name.endswith("*")):
            found[node] = state if NODES_AWAY.search(state.lower()) else ""
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
    """Whether a task was cancelled or preempted, which says nothing about the task itself.

    Judged by Slurm's accounting; where that has no final state (there may be none, and it lags by seconds) by the end of
    the log.
    """
    return state in OUTSIDE if state in ENDED else bool(LAST_WORDS.search(log()))


def node_was_lost(state: str | None, log: Callable[[], str]) -> bool:
    """Whether a task's node died, which says nothing about the task. Judged by accounting, or else by the end of its log."""
    return state in NODE_LOST if state in ENDED else bool(NODE_LOST_WORDS.search(log()))


def all_ended(states: Mapping[int, str], elements: int) -> bool:
    """Whether accounting has a final state for every element of an array."""
    return all(states.get(element) in ENDED for element in range(elements))


def last_line(words: str, code: int) -> str:
    """The last line that a command wrote to stderr; its exit code if there is none."""
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"
