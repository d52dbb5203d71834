"""Throw-away runs of the excerpts, through the controller's rounds, as hpc.submit and hpc.resume do them."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from audio_tokenizers.errors import Tar2TokensError
from hpc.cluster import Cluster, SubmitRefusedError
from hpc.controller import Round
from hpc.failure_groups import find_damaged, find_failures
from hpc.launch import Launch
from hpc.local_cluster import LocalCluster
from hpc.lock import LockHeldError
from hpc.rounds import cluster_of, make_controller
from hpc.run import ListedTar, Run, RunState
from hpc.trust import share_run
from jobs.model_hashes import model_hashes_path
from jobs.signals import INTERRUPTIONS, StopFlag
from jobs.spec import TokenizeSpec, freeze_spec
from jobs.trust import Trust

__all__ = ["OpenCluster", "Outcome", "Trial", "launch_on", "launch_with_one", "make_trial", "work"]

OpenCluster = Callable[[Launch], Cluster]
MOST_SUBMISSIONS = 3
"""A trial needs one submission, or two if it is interrupted. What still fails in the third would fail in a run as well."""
GLANCE_SECONDS = 0.01
"""Between two looks at whether there are lines, for a trial that is to be interrupted."""
STOP_SECONDS = 0.1
"""Between two looks at whether the user has interrupted."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    problem: str = ""
    """Why not every excerpt has its tokens; empty if all have."""
    seconds: float = 0.0
    """From its first round until its last worker had ended."""
    interrupted: bool = False
    """Its workers were ended in the middle of their tars, once."""
    untried: bool = False
    """No task of it has begun: sbatch refused it, or it waited in the queue until it was given up."""


@dataclass
class Trial:
    """A run of all excerpts in a folder of its own."""

    name: str
    run: Run
    launch: Launch
    listed: Sequence[ListedTar]
    to_interrupt: bool = False
    """End all workers once, as soon as one has written lines of a tar that it has not finished."""
    open_cluster: OpenCluster = cluster_of
    outcome: Outcome = field(default_factory=Outcome)
    done: bool = False
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._cluster = self.open_cluster(self.launch)
        self._controller = make_controller(self.run, self._cluster, self.launch, anew=True)

    def step(self) -> bool:
        """Do a round. Returns whether the trial is over."""
        self._began = self._began or time.monotonic()
        try:
            seen = self._controller.round()
            if seen.decision.outcome != "running" and not self._controller.open_jobs():  # no worker is about to write
                self._end("" if seen.decision.outcome == "finished" else self._problem(seen))
            elif sum(each.read_digest() is not None for each in self.run.submissions()) >= MOST_SUBMISSIONS:
                self.give_up(self._problem(seen))
        except LockHeldError:
            pass
        except Tar2TokensError as error:
            self._end(str(error), untried=isinstance(error, SubmitRefusedError))
        return self.done

    def glance(self) -> None:
        """End all workers, if that is to be done and one is in the middle of a tar."""
        if self.to_interrupt and not self.outcome.interrupted and self._has_lines() and self.stop():
            self.outcome = replace(self.outcome, interrupted=True)

    def give_up(self, why: str) -> None:
        """End its tasks, and the trial."""
        untried = not self.has_begun
        self.stop()
        self._end(why, untried=untried)

    def stop(self) -> bool:
        """Kill its workers, or cancel its tasks on Slurm. Returns whether there are any."""
        jobs = self._controller.open_jobs()
        if isinstance(self._cluster, LocalCluster):
            self._cluster.kill(jobs)
        elif jobs:
            self._cluster.cancel(jobs)
        return bool(jobs)

    @property
    def has_begun(self) -> bool:
        """Whether a worker has reported."""
        return any(any((each.folder / "tasks").glob("*.json")) for each in self.run.submissions())

    def _has_lines(self) -> bool:
        for tar in self.listed:
            with suppress(OSError):
                if self.run.paths(tar.name).partial.stat().st_size:
                    return True
        return False

    def _problem(self, seen: Round) -> str:
        """Why not all of its tars are committed."""
        failures = find_damaged(seen.states) or find_failures(self.run.submissions())
        return failures[0].reason if failures else seen.decision.diagnosis or "nothing more can be submitted"

    def _end(self, problem: str, *, untried: bool = False) -> None:
        self.done = True
        seconds = time.monotonic() - self._began
        self.outcome = replace(self.outcome, problem=problem, seconds=seconds, untried=untried)


def make_trial(
    name: str,
    folder: Path,
    parts: Sequence[Path],
    spec: TokenizeSpec,
    launch: Launch,
    trust: Trust | None,
    *,
    hashes: Path | None = None,
    to_interrupt: bool = False,
    open_cluster: OpenCluster = cluster_of,
) -> Trial:
    """A run of these tars in `folder`, with a spec that is complete already. `hashes`: a run that knows the model files."""
    run = Run(folder, trust)
    if trust is not None:
        share_run(run, trust)
    freeze_spec(folder, spec)
    if hashes is not None:
        with suppress(FileNotFoundError):
            model_hashes_path(folder).write_bytes(model_hashes_path(hashes).read_bytes())
    listed = run.add_to_list([str(part) for part in parts], keep_dirs=True)
    launch = msgspec.structs.replace(launch, options=spec.options)
    run.write_state(RunState(run_id=uuid.uuid4().hex[:8], launch=launch))
    return Trial(name, run, launch, listed, to_interrupt, open_cluster)


def launch_with_one(launch: Launch, parts: int) -> Launch:
    """The launch with one worker."""
    if launch.cluster == "local":
        return msgspec.structs.replace(launch, workers=1)
    one = msgspec.structs.replace(launch, gpus_per_node=min(launch.gpus_per_node, 1), procs_per_gpu=1)
    return _in_one_task(one, parts)


def launch_on(launch: Launch, node: str, parts: int) -> Launch:
    """The launch as one array task on one node, with all workers of a task."""
    slurm = {key: value for key, value in launch.slurm.items() if key not in ("nodelist", "nodefile", "exclude")}
    return _in_one_task(msgspec.structs.replace(launch, slurm={**slurm, "nodelist": node}), parts)


def _in_one_task(launch: Launch, parts: int) -> Launch:
    """As many tars per GPU as make one array task of all of them."""
    each = math.ceil(parts * launch.procs_per_gpu / launch.processes)
    return msgspec.structs.replace(launch, tars_per_gpu=each, max_running=None)


def work(trials: Sequence[Trial], *, pause_s: float, wait_s: float = math.inf) -> None:
    """Do rounds of all trials until each is over.

    A trial on Slurm of which no task has begun after `wait_s` seconds is given up. An interruption or an exception ends all
    tasks; the former then raises SystemExit.
    """
    began = time.monotonic()
    left = list(trials)
    interruption = StopFlag(answer="")
    with interruption.on_signals(INTERRUPTIONS):  # from before the first worker starts
        try:
            while left and not interruption():
                for trial in left:
                    if not trial.step() and time.monotonic() - began > wait_s and not trial.has_begun:
                        trial.give_up(f"none of its tasks had begun after {wait_s:.0f} s")
                left = [trial for trial in left if not trial.done]
                _rest(left, pause_s, interruption)
        finally:
            for trial in left:
                trial.stop()
    if interruption.signal is not None:
        raise SystemExit(128 + interruption.signal)


def _rest(trials: Sequence[Trial], seconds: float, interruption: StopFlag) -> None:
    """Sleep, with an eye on trials that are to be interrupted."""
    until = time.monotonic() + seconds
    while trials and not interruption() and (rest := until - time.monotonic()) > 0:
        for trial in trials:
            trial.glance()
        eager = any(trial.to_interrupt and not trial.outcome.interrupted for trial in trials)
        time.sleep(min(rest, GLANCE_SECONDS if eager else STOP_SECONDS))
