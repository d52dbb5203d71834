"""Run folders as a Slurm cluster would leave them after hours of work, written at once, for tools.report."""

from __future__ import annotations

import heapq
import math
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hpc.launch import Launch
from hpc.plan import Plan, chunk, make_plan
from hpc.run import Run, RunState
from hpc.submissions import Digest, Job, TaskEnd
from jobs.progress import DeviceSeconds, Progress, Try, write_progress
from jobs.records import Record, Tally, encode_record
from jobs.spec import TokenizeSpec, freeze_spec
from jobs.tar_task import TarTask
from jobs.token_statistics import CommittedManifest, TokenStatistics
from support.committed_runs import error, record
from support.small_run import mulaw_spec

BEGIN = 1_795_000_000.0
SPEED = 900.0
"""Audio seconds per second of a GPU."""
BYTES_PER_SECOND = 32_000.0
LIMIT_SECONDS = 7200.0
MAX_ARRAY = 1001
VERSIONS = {"python": "3.11.7", "tar2tokens": "0.1.0", "numpy": "2.4.6", "soundfile": "0.14.0"}


@dataclass
class SimulatedRun:
    """A run in which tasks die, are preempted and reach their time limit, and one node is broken."""

    output: Path
    tars: int
    nodes: int = 8
    gpus: int = 4
    tars_per_task: int = 6
    rounds: int = 3
    trouble: float = 0.04
    """Share of tasks that die, and of those that are stopped."""
    errors: float = 0.3
    """Share of tars that have clips with errors."""
    names: tuple[str, ...] = ()
    """Names of the first tars."""
    lines: bool = True
    """Write records into committed files; without them these have a byte each."""
    tokens: TokenStatistics | None = None
    """Statistics of every manifest."""
    begin: float = BEGIN
    until: float = math.inf
    """When it is looked at: tasks that would end later are at work."""
    broken_node: str = "n03"
    other_nodes: tuple[str, ...] = ()
    """Names of the first nodes."""
    clip: str = "bad.flac"
    """Name of clips that are errors."""
    seed: int = 7

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._run = Run(self.output)
        self.spec: TokenizeSpec = mulaw_spec()
        numbered = (f"speech-{number:06}" for number in range(self.tars))
        self._names = [*self.names, *numbered][: self.tars]
        self._audio = {name: min(6e4, 9000 * self._random.lognormvariate(0, 0.7)) for name in self._names}

    def tar(self, name: str) -> Path:
        """Where the tar would be; it is not there."""
        return self.output.parent / "tars" / f"{name}.tar"

    def write(self) -> Run:
        """Write the run, and return it."""
        freeze_spec(self.output, self.spec)
        self._run.add_to_list([str(self.tar(name)) for name in self._names], keep_dirs=False)
        launch = Launch(cluster="slurm", device="cuda", gpus_per_node=1, time_limit_min=120, partition="gpu")
        self._run.write_state(RunState(run_id="0123abcd", launch=launch))
        left, begin, number = list(self._names), self.begin, 1
        for round_number in range(self.rounds):
            last = round_number == self.rounds - 1
            tasks = [TarTask(str(self.tar(name)), name, int(self._audio[name] * BYTES_PER_SECOND)) for name in left]
            slots = tuple(
                tuple(tasks[first : first + self.tars_per_task]) for first in range(0, len(tasks), self.tars_per_task)
            )
            if not slots or begin > self.until:
                break
            self._note(begin, number, len(left), excluded=round_number > 0)
            free = self._free_gpus(begin, excluded=round_number > 0)
            done: set[str] = set()
            end = begin
            for part in chunk(slots, 1, MAX_ARRAY):
                plan = make_plan(part, self.spec, submission=number, time_limit_s=LIMIT_SECONDS, device="cuda", alive={})
                end = max(end, self._submission(plan, begin, free, done, last=last))
                number += 1
            left = [name for name in left if name not in done]
            begin = end + 60
        self._note(min(begin, self.until), None, len(left), excluded=True)
        return self._run

    def _free_gpus(self, begin: float, *, excluded: bool) -> list[tuple[float, str, str]]:
        names = [*self.other_nodes, *(f"n{node:02}" for node in range(len(self.other_nodes) + 1, self.nodes + 1))]
        places = [(name, str(gpu)) for name in names for gpu in range(self.gpus)]
        found = [
            (begin + self._random.uniform(2, 90), *place)
            for place in places
            if not (excluded and place[0] == self.broken_node)
        ]
        heapq.heapify(found)
        return found

    def _submission(
        self, plan: Plan, begin: float, free: list[tuple[float, str, str]], done: set[str], *, last: bool
    ) -> float:
        submission = self._run.new_submission()
        submission.write_plan(plan)
        job = Job(
            name=f"tar2tokens-{plan.submission}",
            elements=plan.elements,
            parallel=plan.elements,
            host="login",
            intended_at=begin,
            state="submitted",
            job_id=str(4_000_000 + plan.submission),
        )
        submission.write_job(job)
        reports, states, latest = [], Counter[str](), begin
        for slot, tars in enumerate(plan.slots):
            started, node, gpu = heapq.heappop(free)
            if started > self.until:
                latest = math.inf
                break
            report, seconds, state = self._task(tars, node, gpu, started, done, calm=last)
            heapq.heappush(free, (started + seconds + 5, node, gpu))
            path = submission.report_file(slot)
            write_progress(path, report)
            os.utime(path, (started + seconds, started + seconds))
            reports.append(TaskEnd(slot, report))
            states[state] += 1
            latest = max(latest, started + seconds)
        if latest < self.until:
            submission.digest_file.write_bytes(msgspec.json.encode(Digest(reports, silent=0, states=dict(states))))
        return latest

    def _task(
        self, tars: tuple[TarTask, ...], node: str, gpu: str, started: float, done: set[str], *, calm: bool
    ) -> tuple[Progress, float, str]:
        report = Progress(node=node, gpu=gpu, started=started, finished=True)
        chance = self._random.random()
        stops = len(tars) // 2 if chance < self.trouble and not calm else None
        dies = len(tars) // 2 if self.trouble <= chance < 2 * self.trouble and not calm else None
        speed = SPEED * self._random.uniform(0.85, 1.1) * (0.6 if node == "n05" else 1.0)
        seconds, state = 20.0, "COMPLETED"
        for place, task in enumerate(tars):
            if node == self.broken_node:
                report.tries.append(Try(task.name, "machine", problem="CUDA error: uncorrectable ECC error encountered"))
                return report, 35.0, "FAILED"
            wall = self._audio[task.name] / speed
            if place == stops:
                report.tries.append(Try(task.name, "working", gained=3))
                report.finished = False
                seconds += wall / 2
                state = self._random.choice(["PREEMPTED", "NODE_FAIL", "TIMEOUT"])
                break
            if place == dies:
                report.tries.append(Try(task.name, "died", clip=7, problem="SIGSEGV with clip 7 in hand, counted from 0"))
                seconds += wall / 3
            if started + seconds + wall > self.until:
                report.tries.append(Try(task.name, "working", gained=3))
                report.finished = False
                report.audio_seconds += max(0.0, self.until - started - seconds) * speed
                seconds = self.until - started
                break
            seconds += wall
            report.audio_seconds += self._audio[task.name]
            report.clips += 1000
            report.tars_done += 1
            report.tries.append(Try(task.name, "committed", gained=1000))
            self._commit(task, wall, started + seconds)
            done.add(task.name)
        waits = 0.3 if node == "n05" else 0.06
        report.device_seconds = DeviceSeconds(seconds * (0.98 - waits), seconds * waits, seconds * 0.02)
        return report, seconds, state

    def _commit(self, task: TarTask, wall: float, at: float) -> None:
        paths = self._run.paths(task.name)
        records: list[Record] = []
        errors: dict[str, int] = {}
        if self._random.random() < self.errors:
            kind = self._random.choice(["decode", "decode", "too_short", "timeout", "no_text"])
            errors = {kind: 1}
            said = {
                "tar_file": task.tar,
                "audio_file": f"{task.name}/{self.clip}",
                "error": f"{self.clip}: lost sync after 0.4 s",
            }
            records = [error(kind, **said) for _ in range(errors[kind])]
        data = b"\n"
        if self.lines:
            good = [record(tar_file=task.tar, audio_file=f"{number}.flac", text=f"text {number}") for number in range(40)]
            tally = Tally()
            for one in (*good, *records):
                tally.add(one)
            data = b"".join(encode_record(one) + b"\n" for one in (*good, *records))
        manifest = CommittedManifest(
            tar_file=task.tar,
            input_bytes=task.bytes,
            input_mtime_ns=0,
            fingerprint=self.spec.fingerprint,
            verdict="complete",
            clips=data.count(b"\n") if self.lines else 1000,
            errors=errors,
            damaged_clips=int(self._random.random() < 0.05),
            damaged_seconds=0.3,
            audio_seconds=self._audio[task.name],
            wall_seconds=wall,
            device_seconds=DeviceSeconds(wall * 0.9, wall * 0.08, wall * 0.02),
            output_bytes=len(data),
            attempt="0123456789ab",
            linked_clips=0,
            versions=VERSIONS,
            tokens=self.tokens,
        )
        for path, content in ((paths.manifest, msgspec.json.encode(manifest)), (paths.committed, data)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.utime(paths.committed, (at, at))

    def _note(self, at: float, submitted: int | None, tars: int, *, excluded: bool) -> None:
        from datetime import datetime, timezone

        reason = "4 tries failed there, where other nodes work"
        entry = {
            "at": datetime.fromtimestamp(at, tz=timezone.utc).isoformat(timespec="seconds"),
            "outcome": "running",
            "submitted": [submitted] if submitted is not None else [],
            "tars": tars,
            "quarantine": {},
            "exclude": {self.broken_node: reason} if excluded else {},
        }
        with self._run.history_file.open("ab") as history:
            history.write(msgspec.json.encode(entry) + b"\n")
