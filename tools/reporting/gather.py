"""Reads a run folder, each manifest once, into the values that a report shows. Changes nothing; asks no cluster."""

from __future__ import annotations

import dataclasses
import heapq
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from audio_tokenizers.errors import Tar2TokensError, UsageError
from audio_tokenizers.shared.command_names import called
from hpc.failure_groups import Failure, find_damaged, find_damaged_clips, find_error_clips, find_failures, log_tail
from hpc.policy import Decision
from hpc.progress import TarState, scan
from hpc.remote_list import read_sizes
from hpc.run import ListedTar, Run, RunState, as_task
from hpc.standing import Standing
from jobs.manifest import Manifest
from jobs.plain_text import plain, plain_lines
from jobs.spec import TokenizeSpec, read_spec
from tools.checking.failed import Found
from tools.checking.rerun_commands import commands
from tools.checking.token_reading import read_totals
from tools.reporting.facts import STATES, FailureGroup, RunFacts, SlowTar, Tars, Totals
from tools.reporting.tasks import read_tasks

__all__ = ["gather"]

EXAMPLES = 3
"""Of each kind of error, and of damaged clips."""
EXAMPLE_FILES = 8
"""Committed files in which examples of a kind are looked for."""
SLOWEST = 15
SAMPLE = 200
"""Tars whose tokens are looked at, at least; never twice as many. They show what all have, and take milliseconds each."""
GROUPS, NAMES, LOG_LINES = 12, 5, 8
INVALID = 20

Value = TypeVar("Value")

log = logging.getLogger("tar2tokens")


def gather(run: Run, now: float) -> tuple[RunFacts, list[TarState]]:
    """The run at this moment, and its tars' states, committed ones without their manifests.

    Raises UsageError if there is no run folder. Files of the run that cannot be read become `problems`.
    """
    if not run.folder.is_dir():
        raise UsageError(f"{run.output_dir}: no run here: expected its folder .run; give the right --output-dir")
    problems: list[str] = []

    def ask(question: Callable[[], Value], otherwise: Value) -> Value:
        try:
            return question()
        except (Tar2TokensError, OSError, ValueError, msgspec.MsgspecError) as error:
            problems.append(plain_lines(str(error)))
            return otherwise

    nothing: list[ListedTar] = []
    listed = ask(run.listed, nothing)
    state = ask(run.read_state, RunState())
    if state.training is not None:
        look = f"{called('tools.check_progress')} shows how far it is"
        raise UsageError(f"{run.output_dir}: expected a run of tokens, found a training: {look}")
    spec: TokenizeSpec | None = ask(lambda: read_spec(run.output_dir), None)
    reader = _Reader(run, listed, state)
    reader.read()
    undecided: tuple[Decision | None, str] = (None, "")
    decision, stopped = ask(lambda: _judge(run, reader.states), undecided)
    quarantine = decision.quarantine if decision is not None else {}
    tars = reader.tars(quarantine)
    submissions, tasks = read_tasks(run, now, problems)
    none: list[Failure] = []
    groups = ask(lambda: _failures(run, reader.states, state), none)
    found = Found(
        reader.states,
        groups,
        decision or Decision(outcome="running"),
        ask(lambda: find_error_clips(run, reader.with_errors(), EXAMPLES), {}),
        ask(lambda: find_damaged_clips(run, reader.with_damage(), EXAMPLES), []),
    )
    facts = RunFacts(
        output_dir=str(run.output_dir),
        made_at=now,
        tars=tars,
        totals=reader.totals,
        spec=spec,
        launch=state.launch,
        outcome=decision.outcome if decision is not None and listed else "",
        stopped=stopped,
        quarantine=quarantine,
        exclude=decision.exclude if decision is not None else {},
        exclusions=_exclusions(run.history_file),
        submissions=submissions,
        tasks=tasks,
        failures=[_group(each) for each in groups[:GROUPS]],
        invalid=dict(islice(_problems(reader.states, quarantine), INVALID)),
        invalid_tars=sum(1 for _ in _problems(reader.states, quarantine)),
        error_examples=found.examples,
        damaged_examples=found.damaged,
        commands=ask(lambda: _commands(found, run, state, spec), []),
        slowest=reader.slowest(),
        tokens=read_totals(run, reader.sample),
        problems=problems,
    )
    return facts, reader.states


class _Reader:
    """One pass over the run's tars. It keeps numbers, and manifests only where something is wrong."""

    def __init__(self, run: Run, listed: Sequence[ListedTar], state: RunState) -> None:
        self._run = run
        self._listed = listed
        self._retry = state.retry
        size = len(listed)
        self._state = np.zeros(size, np.uint8)
        self._audio, self._wall, self._bytes = np.zeros(size), np.zeros(size), np.zeros(size)
        self._errors = np.zeros(size, np.int64)
        self._at = np.full(size, np.nan)
        self.states: list[TarState] = []
        self.sample: list[TarState] = []
        """SAMPLE committed tars or more, with their manifests: every nth, or all of a small run."""
        self._committed, self._stride = 0, 1
        self.totals = Totals()
        self._slow: list[tuple[float, int, SlowTar]] = []
        self._bad: dict[str, list[tuple[float, int, TarState]]] = {}
        self._damaged: list[tuple[float, int, TarState]] = []
        self._versions: Counter[tuple[tuple[str, str], ...]] = Counter()
        self._sums = {name: Counter[str]() for name in ("errors", "notes", "left_out")}

    def read(self) -> None:
        """Read every manifest once."""
        sizes = read_sizes(self._run.sizes_file)
        committed_folder = f"{self._run.output_dir}/"
        for number, tar in enumerate(scan(self._run, self._listed)):
            self._state[number] = STATES.index(tar.state)
            self._audio[number] = tar.audio_seconds
            self.totals.clips += tar.clips
            self.totals.audio_seconds += tar.audio_seconds
            self.totals.damaged_clips += tar.damaged_clips
            self.totals.damaged_seconds += tar.damaged_seconds
            manifest = tar.manifest
            if tar.state == "committed" and manifest is not None:
                self._bytes[number] = manifest.input_bytes
                with suppress(OSError):  # --retry-errors may have set it aside meanwhile
                    self._at[number] = os.stat(f"{committed_folder}{tar.name}.jsonl").st_mtime  # noqa: PTH116 (once per tar)
                self._add(number, tar, manifest)
                first_bad = bool(manifest.errors) and self.totals.error_tars == 1  # tells `commands` that there are some
                if not first_bad and tar.name not in self._retry:
                    tar = dataclasses.replace(tar, manifest=None)  # noqa: PLW2901 (100,000 manifests take 200 MB)
            else:
                self._bytes[number] = as_task(ListedTar(tar.tar, tar.name), sizes).bytes
            self.states.append(tar)
        self.totals.errors = dict(self._sums["errors"].most_common())
        self.totals.notes = dict(self._sums["notes"].most_common())
        self.totals.left_out = dict(self._sums["left_out"].most_common())
        self.totals.versions = dict(self._versions.most_common())

    def _add(self, number: int, tar: TarState, manifest: Manifest) -> None:
        totals = self.totals
        self._wall[number] = manifest.wall_seconds
        self._errors[number] = errors = sum(manifest.errors.values())
        totals.error_tars += errors > 0
        for name, sums in self._sums.items():
            if found := getattr(manifest, name):
                sums.update(found)
        totals.orphan_sidecars += manifest.orphan_sidecars
        totals.sidecar_faults += manifest.sidecar_faults
        totals.output_bytes += manifest.output_bytes + manifest.features_bytes
        totals.input_bytes += manifest.input_bytes
        totals.device += manifest.device_seconds
        self._versions[tuple(manifest.versions.items())] += 1
        if self._committed % self._stride == 0:
            self.sample.append(tar)
            if len(self.sample) >= 2 * SAMPLE:
                self.sample, self._stride = self.sample[::2], 2 * self._stride
        self._committed += 1
        slow = SlowTar(tar.name, manifest.wall_seconds, manifest.audio_seconds, manifest.clips)
        _keep(self._slow, manifest.wall_seconds, number, slow, SLOWEST)
        for kind in manifest.errors:
            _keep(self._bad.setdefault(kind, []), -manifest.output_bytes, number, tar, EXAMPLE_FILES)
        if manifest.damaged_clips:
            _keep(self._damaged, -manifest.output_bytes, number, tar, EXAMPLE_FILES)

    def tars(self, quarantine: Collection[str]) -> Tars:
        """The arrays; tars in quarantine have that as their state."""
        if quarantine:
            quarantined = STATES.index("quarantined")
            for number, tar in enumerate(self._listed):
                if tar.name in quarantine:
                    self._state[number] = quarantined
        return Tars(self._state, self._audio, self._wall, self._bytes, self._errors, self._at)

    def slowest(self) -> list[SlowTar]:
        """The committed tars that took longest, longest first."""
        return [slow for _, _, slow in sorted(self._slow, key=_first_two, reverse=True)]

    def with_errors(self) -> list[TarState]:
        """The smallest committed tars with errors, some for each kind."""
        return list({tar.name: tar for heap in self._bad.values() for _, _, tar in heap}.values())

    def with_damage(self) -> list[TarState]:
        """The smallest committed tars that have damaged clips."""
        return [tar for _, _, tar in self._damaged]


def _first_two(entry: tuple[float, int, object]) -> tuple[float, int]:
    return entry[:2]


def _keep(heap: list[tuple[float, int, Value]], key: float, number: int, value: Value, most: int) -> None:
    """Keep the entries with the largest keys. Numbers are unique, so values are never compared."""
    entry = (key, -number, value)
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif entry > heap[0]:
        heapq.heapreplace(heap, entry)


def _problems(states: Sequence[TarState], quarantine: Collection[str]) -> Iterator[tuple[str, str]]:
    """(output name, why) of the tars that need attention and are not in quarantine: those whose output is invalid first."""
    for invalid in (True, False):
        for state in states:
            if state.problem is not None and (state.state == "invalid") == invalid and state.name not in quarantine:
                yield state.name, state.problem


def _judge(run: Run, states: Sequence[TarState]) -> tuple[Decision, str]:
    standing = Standing(run)
    decision = standing.judge(states)
    return decision, standing.why_stopped(decision)


def _failures(run: Run, states: Sequence[TarState], state: RunState) -> list[Failure]:
    submissions = run.submissions()
    if not submissions:  # no task has reported anything
        return find_damaged(states)
    return find_failures([submission for submission in submissions if submission.number > state.amnesty])


def _group(failure: Failure) -> FailureGroup:
    tail = log_tail(failure.log_file, LOG_LINES, about=failure.problem)
    return FailureGroup(
        reason=plain_lines(failure.reason),
        tars=len(failure.tars),
        examples=tuple(plain(name) for name in failure.tars[:NAMES]),
        nodes=tuple(plain(node) for node in sorted(failure.nodes)[:NAMES]),
        log_file=plain(failure.log_file) if tail else "",
        log=tuple(plain(line) for line in tail),
    )


def _commands(found: Found, run: Run, state: RunState, spec: TokenizeSpec | None) -> list[str]:
    """As tools.failures prints them, after that command itself: it writes the lists that they take."""
    failed, errors = bool(found.failed()), bool(found.with_errors())
    if not (failed or errors or found.idle()):
        return []
    return commands(found, run, state, spec, Path("failed_tars.txt"), Path("tars_with_errors.txt"))


def _exclusions(history: Path) -> list[tuple[float, str]]:
    """(when, node) of each node's first exclusion. Lines that cannot be read are passed over: the file is for people."""
    found: dict[str, float] = {}
    with suppress(OSError), history.open("rb") as lines:
        for line in lines:
            if b'"exclude":{}' in line:
                continue
            with suppress(ValueError, TypeError, KeyError, msgspec.MsgspecError):
                entry = msgspec.json.decode(line, type=dict[str, Any])
                at = datetime.fromisoformat(entry["at"]).timestamp()
                for node in dict(entry["exclude"]):
                    found.setdefault(plain(node), at)
    return sorted((at, node) for node, at in found.items())
