"""Failures grouped by reason, each with the end of a log; examples of clips with errors and of damaged clips."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from hpc.plan import Plan
from hpc.progress import TarState
from hpc.run import Run
from hpc.slurm_words import is_submit_limit
from hpc.submissions import Job, Submission
from jobs.manifest import Manifest
from jobs.partial_tally import is_damaged
from jobs.plain_text import without_colours
from jobs.progress import Progress, Try
from jobs.records import ErrorRecord, TokenRecord, decode_record

__all__ = ["Failure", "find_damaged", "find_damaged_clips", "find_error_clips", "find_failures", "log_tail"]

TAIL_LINES = 12
TAIL_BYTES = 16384
ERROR_LINE = re.compile(rb'"error_kind":"(\w+)"\}\n?$')
"""The end of an error record's line, and of no other line."""
SILENT = "tasks exited before starting work: see --setup, and whether the environment exists on the nodes"
FAILED = ("failed", "machine", "died", "killed", "damaged")
NUMBER = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{12}|\d+(?:[.,:]\d+)*)\b")


@dataclass
class Failure:
    """Tries that failed for one reason, the latest last."""

    reason: str
    """With `*` for what differs between tars, unless there is only one tar."""
    tars: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    problem: str = ""
    """The problem of the latest try, verbatim."""
    log_file: Path | None = None
    """The log of the latest try."""
    known: set[str] = field(default_factory=set, repr=False)
    """The tars again, for a quick look-up."""

    def add(self, tar: str) -> None:
        """Count a tar, once."""
        if tar not in self.known:
            self.known.add(tar)
            self.tars.append(tar)


def find_failures(submissions: Sequence[Submission]) -> list[Failure]:
    """The failed tries of these submissions, given oldest first; groups with the most tars come first."""
    found: dict[str, Failure] = {}
    job: Job | None = None
    for submission in submissions:
        plan, job = submission.read_plan(), submission.read_job()
        if plan is None or job is None:
            continue
        digest = submission.read_digest()
        reports = {end.slot: end.progress for end in digest.ends} if digest else submission.reports(range(len(plan.slots)))
        _add_tries(found, submission, plan, job, reports)
        if digest is not None and digest.silent:
            failure = found.setdefault(SILENT, Failure(SILENT))
            heard = {slot // plan.processes for slot in reports}
            failure.log_file = next((path for element, _, path in submission.log_files() if element not in heard), None)
    if (
        job is not None and job.state == "refused" and not is_submit_limit(job.words)
    ):  # and no later submission has succeeded
        found[job.words] = Failure(job.words)
    return sorted(found.values(), key=lambda failure: -len(failure.tars))


def find_damaged(states: Sequence[TarState]) -> list[Failure]:
    """Failures that files alone show, without a task's report: tars that are cut, missing or not ours."""
    found: dict[str, Failure] = {}
    for state in states:
        if state.problem is not None:
            own, shared = _reasons(Try(state.name, problem=state.problem), state.tar)
            failure = found.setdefault(shared, Failure(own))
            failure.reason = own if not failure.tars else shared
            failure.add(state.name)
    return sorted(found.values(), key=lambda failure: -len(failure.tars))


def _add_tries(
    found: dict[str, Failure], submission: Submission, plan: Plan, job: Job, reports: Mapping[int, Progress]
) -> None:
    tars = {task.name: task.tar for slot in plan.slots for task in slot}
    for slot, report in sorted(reports.items()):
        for attempt in report.tries:
            if attempt.outcome not in FAILED:
                continue
            own, shared = _reasons(attempt, tars.get(attempt.name, ""))
            failure = found.setdefault(shared, Failure(own))
            failure.add(attempt.name)
            if failure.reason != own:
                failure.reason = shared
            if report.node and report.node not in failure.nodes:
                failure.nodes.append(report.node)
            failure.problem = attempt.problem
            failure.log_file = submission.log_file(job.job_id, slot // plan.processes, slot % plan.processes)


def _reasons(attempt: Try, tar: str) -> tuple[str, str]:
    """The problem without the tar's name, and the problem without anything that differs between tars."""
    words = attempt.problem.replace(f"with clip {attempt.clip} in hand, counted from 0", "with a clip in hand")
    own = next((words[len(who) + 2 :] for who in (tar, attempt.name) if words.startswith(f"{who}: ")), words)
    shared = own.replace(tar, "*") if tar else own
    shared = re.sub(rf"(?<![\w.-]){re.escape(attempt.name)}(?![\w-])", "*", shared)
    return own, NUMBER.sub("*", shared)


def log_tail(path: Path | None, lines: int = TAIL_LINES, about: str = "") -> list[str]:
    """The last lines of a log, up to the last one that mentions `about`, or to its end; none if it cannot be read."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = without_colours(file.read().decode(errors="replace")).splitlines()
    except OSError:
        return []
    first = about.partition("\n")[0]
    said = [number for number, line in enumerate(tail, 1) if first and first in line]
    return tail[: said[-1] if said else None][-lines:]


def find_error_clips(run: Run, states: Sequence[TarState], per_kind: int) -> dict[str, list[ErrorRecord]]:
    """Up to `per_kind` error records of each kind, from the smallest committed files that have them."""
    examples: dict[str, list[ErrorRecord]] = {}
    for manifest, path in _committed(run, states, lambda manifest: bool(manifest.errors)):
        wanted = {kind: per_kind - len(examples.setdefault(kind, [])) for kind in manifest.errors}
        wanted = {kind: min(number, manifest.errors[kind]) for kind, number in wanted.items() if number > 0}
        with suppress(FileNotFoundError):  # --retry-errors may have moved it aside meanwhile
            for record in _error_records(path, wanted):
                examples[record.error_kind].append(record)
    return examples


def find_damaged_clips(run: Run, states: Sequence[TarState], number: int) -> list[TokenRecord]:
    """Up to `number` clips that were kept though damaged, from the smallest committed files that have them."""
    examples: list[TokenRecord] = []
    for manifest, path in _committed(run, states, lambda manifest: manifest.damaged_clips > 0):
        wanted = min(number - len(examples), manifest.damaged_clips)
        if wanted <= 0:
            break
        with suppress(FileNotFoundError), path.open("rb") as file:  # --retry-errors has set it aside meanwhile
            for line in islice(filter(is_damaged, file), wanted):
                with suppress(msgspec.DecodeError):
                    record = decode_record(line)
                    if isinstance(record, TokenRecord):
                        examples.append(record)
    return examples


def _committed(run: Run, states: Sequence[TarState], wanted: Callable[[Manifest], bool]) -> list[tuple[Manifest, Path]]:
    """Manifests and files of the committed tars that are `wanted`, smallest files first."""
    found = [
        (state.manifest, run.paths(state.name).committed)
        for state in states
        if state.state == "committed" and state.manifest is not None and wanted(state.manifest)
    ]
    return sorted(found, key=_size)


def _size(found: tuple[Manifest, Path]) -> int:
    return found[0].output_bytes


def _error_records(path: Path, wanted: dict[str, int]) -> Collection[ErrorRecord]:
    """The first error records of a file, as many of each kind as `wanted` says."""
    found: list[ErrorRecord] = []
    if not wanted:
        return found
    left = dict(wanted)
    with path.open("rb") as file:
        for line in file:
            match = ERROR_LINE.search(line, max(0, len(line) - 64))
            if match is None or not left.get(match[1].decode()):
                continue
            with suppress(msgspec.DecodeError):
                record = decode_record(line)
                if isinstance(record, ErrorRecord):
                    found.append(record)
                    left[record.error_kind] -= 1
            if not any(left.values()):
                break
    return found
