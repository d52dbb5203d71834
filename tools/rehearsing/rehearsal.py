"""A rehearsal: the same clips tokenized in several ways in a scratch folder, judged, and a plan for the whole list."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from audio_tokenizers.errors import Tar2TokensError, UsageError
from audio_tokenizers.registry import get_factory
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.begin_run import Begun
from hpc.cluster import Cluster
from hpc.dispatch import Submitter
from hpc.environment import task_environment
from hpc.launch import Launch
from hpc.progress import scan
from hpc.rounds import cluster_of
from hpc.run import ListedTar, as_task
from hpc.slurm import SlurmCluster
from jobs.devices import choose_device
from jobs.model_hashes import ModelHashes
from tools.common.findings import Finding, fault, fine, warning
from tools.listening.clips import choose_clips
from tools.listening.comparison import compare_all
from tools.listening.decoders import decoding_factory, load_decoder
from tools.rehearsing.agreement import by_device, differences, odd_nodes
from tools.rehearsing.budget import judge_budget, judge_room, make_budget
from tools.rehearsing.excerpts import Excerpts, cut_excerpts
from tools.rehearsing.forecast import forecast, why_unsure
from tools.rehearsing.judge import (
    judge_devices,
    judge_errors,
    judge_excerpts,
    judge_heard,
    judge_interruption,
    judge_node,
    judge_rate,
    judge_same,
    judge_trial,
)
from tools.rehearsing.results import Figures, Made, read_made
from tools.rehearsing.trial import OpenCluster, Trial, launch_on, launch_with_one, make_trial, work

__all__ = ["Asked", "rehearse"]

FEWEST_PARTS = 24
"""Excerpts, as far as there are clips: the spread over them makes the interval."""
DECODED_CLIPS = 6
ONE, ALL, INTERRUPTED = "one worker", "all workers", "interrupted"
LOCAL_SECONDS, SLURM_SECONDS = 0.2, 3.0
"""Between rounds."""


Basis: TypeAlias = tuple[Trial, Made, int, str]
"""A trial to listen to, what the forecast is made of, workers at once, and why so many."""


def _nodes(launch: Launch) -> dict[str, str]:
    return SlurmCluster(task_environment(launch), clusters=launch.clusters).nodes(launch)


@dataclass(frozen=True)
class Asked:
    """What is rehearsed, and where."""

    begun: Begun
    """What hpc.submit would begin."""
    scratch: Path
    clips: int
    seed: int = 0
    wait_s: float = 600.0
    """How long a task may wait in Slurm's queue."""
    open_cluster: OpenCluster = cluster_of
    find_nodes: Callable[[Launch], Mapping[str, str]] = _nodes
    pause_s: float | None = None
    """Between rounds; None for what fits the cluster."""

    @property
    def tars(self) -> list[ListedTar]:
        """Those that need work, or all of them if none does."""
        return list(self.begun.todo) or [ListedTar(state.tar, state.name) for state in self.begun.states]


class _Rehearsal:
    """What the trials of one rehearsal have in common."""

    def __init__(self, asked: Asked, workers: int) -> None:
        self.asked = asked
        self.launch = asked.begun.launch
        parts = max(FEWEST_PARTS, 2 * workers)
        self.cut: Excerpts = cut_excerpts(
            [tar.tar for tar in asked.tars],
            asked.clips,
            parts,
            asked.begun.spec,
            asked.scratch / "tars",
            asked.seed,
            allow_pipe=self.launch.allow_pipe,
        )

    def hash_models(self) -> None:
        """Once for all trials."""
        spec = self.asked.begun.spec
        hashes = ModelHashes(self.asked.scratch)
        with hashes.in_use():
            get_factory(spec.backend).describe(spec.options, self.launch.device)
        hashes.save()

    def trial(self, name: str, launch: Launch, *, to_interrupt: bool = False) -> Trial:
        """A trial of all excerpts."""
        return make_trial(
            name,
            self.asked.scratch / name.replace(" ", "-"),
            [part.path for part in self.cut.parts],
            self.asked.begun.spec,
            launch,
            self.asked.begun.run.trust,
            hashes=self.asked.scratch,
            to_interrupt=to_interrupt,
            open_cluster=self.asked.open_cluster,
        )

    def work(self, *trials: Trial) -> None:
        """Bring trials to their ends."""
        usual = LOCAL_SECONDS if self.launch.cluster == "local" else max(SLURM_SECONDS, len(trials) / 4)
        pause = usual if self.asked.pause_s is None else self.asked.pause_s
        work(trials, pause_s=pause, wait_s=self.asked.wait_s)

    def made(self, trial: Trial) -> Made | None:
        """What a trial made; None if it did not end well."""
        return None if trial.outcome.problem else read_made(trial, self.cut.parts)


def rehearse(asked: Asked) -> Iterator[Finding]:
    """Findings, each as soon as it is known. Raises Tar2TokensError and OSError."""
    launch = asked.begun.launch
    local = asked.open_cluster(launch) if launch.cluster == "local" else None
    workers = (local.slots(launch, max(asked.clips, 1)) or 1) if local is not None else launch.processes
    rehearsal = _Rehearsal(asked, workers)
    yield from judge_excerpts(rehearsal.cut, asked.clips)
    if not rehearsal.cut.parts:
        return
    rehearsal.hash_models()
    found = yield from (_here(rehearsal, workers) if local is not None else _on_nodes(rehearsal))
    if found is None:
        return
    trial, basis, at_once, why = found
    yield judge_errors(basis)
    yield from _hear(trial, asked)
    yield judge_rate(basis, gpu=launch.device != "cpu")
    if basis.figures and basis.audio_seconds:
        yield from _plan(asked, basis.figures, basis.startup_s, at_once, why)


def _here(rehearsal: _Rehearsal, workers: int) -> Generator[Finding, None, Basis | None]:
    """The trials on this machine."""
    one = rehearsal.trial(ONE, launch_with_one(rehearsal.launch, len(rehearsal.cut.parts)))
    rehearsal.work(one)
    alone = rehearsal.made(one)
    yield judge_trial(ONE, one.outcome, alone)
    if alone is None:
        return None
    basis = alone
    if workers > 1:
        every = rehearsal.trial(ALL, rehearsal.launch)
        rehearsal.work(every)
        together = rehearsal.made(every)
        yield judge_trial(ALL, every.outcome, together)
        if together is not None:
            basis = together
            yield judge_same("same tokens", differences(alone, together), len(alone.lines))
    broken = rehearsal.trial(INTERRUPTED, rehearsal.launch, to_interrupt=True)
    rehearsal.work(broken)
    yield judge_interruption(broken.outcome)
    resumed = rehearsal.made(broken)
    if resumed is not None:
        yield judge_same("resumed tokens", differences(alone, resumed), len(alone.lines))
    return one, basis, workers, "this machine"


def _on_nodes(rehearsal: _Rehearsal) -> Generator[Finding, None, Basis | None]:
    """The trials on Slurm: one worker anywhere, the same interrupted, and one task on each node of the partition."""
    launch, parts = rehearsal.launch, len(rehearsal.cut.parts)
    known = rehearsal.asked.find_nodes(launch)
    yield from _nodes_away(known)
    one = rehearsal.trial(ONE, launch_with_one(launch, parts))
    broken = rehearsal.trial(INTERRUPTED, launch_with_one(launch, parts), to_interrupt=True)
    nodes = {node: rehearsal.trial(f"node {node}", launch_on(launch, node, parts)) for node, why in known.items() if not why}
    rehearsal.work(one, broken, *nodes.values())
    made = {name: rehearsal.made(trial) for name, trial in {ONE: one, INTERRUPTED: broken, **nodes}.items()}
    good = [(name, each) for name, each in made.items() if each is not None]
    groups = by_device(good)
    odd = {name: differs for group in groups.values() for name, differs in odd_nodes(group).items()}
    yield judge_trial(ONE, one.outcome, made[ONE])
    yield judge_interruption(broken.outcome)
    for name, check in ((ONE, "same tokens"), (INTERRUPTED, "resumed tokens")):
        if (each := made[name]) is not None:
            yield judge_same(check, odd.get(name), len(each.lines))
    for node, trial in nodes.items():
        yield judge_node(node, trial.outcome, made[node], odd.get(node))
    usual = [next((one for name, one in group.items() if name not in odd), None) for group in groups.values()]
    first = next((one for one in usual if one is not None), None)
    if first is None:
        yield fault("trials", f"none came to its end: {one.outcome.problem}", "see what is said of each")
        return None
    yield from judge_devices({one.device: differences(first, one) for one in usual if one is not None})
    heard = next(trial for name, trial in {ONE: one, INTERRUPTED: broken, **nodes}.items() if made[name] is first)
    return heard, *_pooled([each for name, each in good if name in nodes and name not in odd] or [first], launch, nodes)


def _pooled(basis: Sequence[Made], launch: Launch, nodes: Mapping[str, Trial]) -> tuple[Made, int, str]:
    """Several nodes' figures as one, and how many workers a run would have at once."""
    figures: list[Figures] = [one for made in basis for one in made.figures]
    made = replace(basis[0], figures=figures, startup_s=sum(one.startup_s for one in basis) / len(basis))
    if launch.max_running is not None:
        return made, launch.max_running * launch.processes, "--max-running"
    return made, max(len(nodes), 1) * launch.processes, "one task on each node"


def _nodes_away(known: Mapping[str, str]) -> Iterator[Finding]:
    away = [f"{node} is {why}" for node, why in known.items() if why]
    tried = len(known) - len(away)
    if not tried:
        yield warning("nodes", "no node of the partition starts jobs now", "sinfo says more; is --partition right?")
    elif away:
        yield fine("nodes", f"{counted(tried, 'node')} to try; {'; '.join(away)}")


def _hear(trial: Trial, asked: Asked) -> Iterator[Finding]:
    """Decode some clips, if the backend can."""
    spec = asked.begun.spec
    try:
        decoding_factory(spec)
    except UsageError:
        yield fine("decoded", f"{spec.backend} has no decoder: not checked")
        return
    states = [state for state in scan(trial.run, trial.listed) if state.state == "committed"]
    picks = choose_clips(states, trial.run, DECODED_CLIPS, asked.seed)
    if not picks:
        return
    try:
        decoder = load_decoder(spec, None, choose_device("mps" if asked.begun.launch.device == "mps" else "auto"))
        yield judge_heard(compare_all(picks, decoder, spec, asked.scratch / "decoded"))
    except Tar2TokensError as error:
        yield warning("decoded", f"not checked here: {error}", f"{called('tools.decode_check')} can, on the run")


def _plan(asked: Asked, figures: Sequence[Figures], startup_s: float, at_once: int, why: str) -> Iterator[Finding]:
    """What the whole list takes."""
    begun, launch = asked.begun, asked.begun.launch
    found = forecast(figures, asked.seed)
    tasks = [as_task(tar, begun.sizes) for tar in asked.tars]
    cluster: Cluster = asked.open_cluster(launch)
    submitter = Submitter(begun.run, cluster, launch, host="", clock=float)
    budget = make_budget(
        [task.bytes for task in tasks],
        found,
        startup_s,
        slots=lambda rate: [sum(task.bytes for task in slot) for slot in submitter.plan_slots(tasks, rate)],
        processes=launch.processes if launch.cluster == "slurm" else 0,
        workers=at_once,
        per_gpu=launch.procs_per_gpu if launch.device != "cpu" else 0,
    )
    unsure = why_unsure(figures, found)
    yield from judge_budget(budget, unsure, time_limit_min=launch.time_limit_min, at_once=why)
    if budget is not None:
        yield judge_room(budget, shutil.disk_usage(asked.scratch).free)
