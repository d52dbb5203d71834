"""What tools.check_progress reports: counts over the states of a run's tars, and what its tasks do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from hpc.progress import TarState
from hpc.rounds import cluster_of
from hpc.run import Run
from hpc.standing import Running, Standing, Worker
from hpc.trust import launch_to_look_with
from jobs.left_out import sum_left_out
from jobs.progress import DeviceSeconds
from tools.checking.token_report import TokenReport

__all__ = ["Report", "look", "make_report"]

SLURM_SECONDS = 10.0
"""How long to wait for Slurm, whose answer only adds to what the files tell."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    output_dir: str
    total_tars: int
    completed: int
    partial: int
    not_started: int
    invalid: int
    clips: int
    """In committed files and partials."""
    errors: dict[str, int]
    """Error records of committed files, by kind."""
    damaged_clips: int = 0
    """Clips that were kept although part of their audio is missing, in committed files and partials."""
    damaged_seconds: float = 0.0
    """Seconds of audio missing from them."""
    notes: dict[str, int] = {}
    """Records of committed files that carry a note, by note."""
    audio_hours: float
    """Audio that became tokens, in committed files, in partials and of long clips in hand."""
    device: str = ""
    """`cpu` or `cuda`, as the run was launched; empty before a launch."""
    device_seconds: DeviceSeconds
    """How workers' devices spent their time, over committed files; `running` has the same of running tasks."""
    tars_without_clips: int
    left_out: dict[str, int] = {}
    """Members that became no clips but may be data, by suffix."""
    outside_subset: int = 0
    """Clips outside of the run's share (--subset-ratio), of committed files."""
    orphan_sidecars: int
    sidecar_faults: int
    problems: dict[str, str]
    """Output name -> why it is not committed or not valid."""
    quarantined: dict[str, str] = {}
    """Output name -> why it is in quarantine."""
    working: dict[str, Worker] = {}
    """Output name -> its worker, for tars that are not committed."""
    running: Running | None = None
    """The run's tasks, if it was launched and is not finished."""
    stopped: str = ""
    """Why nothing more is submitted: the run is stuck or cancelled. Empty otherwise."""
    checked: bool
    """Every line was read (--check-validity)."""
    not_asked: int = 0
    """Committed tars whose servers did not answer whether they have changed."""
    tokens: TokenReport | None = None
    """With --tokens."""


def make_report(
    output_dir: Path,
    states: Sequence[TarState],
    *,
    checked: bool,
    quarantined: Mapping[str, str] = MappingProxyType({}),
    working: Mapping[str, Worker] = MappingProxyType({}),
    running: Running | None = None,
    stopped: str = "",
    device: str = "",
) -> Report:
    """Pure: count states."""
    count = Counter(state.state for state in states)
    committed = [state.manifest for state in states if state.state == "committed" and state.manifest is not None]
    errors: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for manifest in committed:
        errors.update(manifest.errors)
        notes.update(manifest.notes)
    return Report(
        output_dir=str(output_dir),
        total_tars=len(states),
        completed=count["committed"],
        partial=count["partial"],
        not_started=count["not_started"],
        invalid=count["invalid"],
        clips=sum(state.clips for state in states),
        errors=dict(sorted(errors.items())),
        damaged_clips=sum(state.damaged_clips for state in states),
        damaged_seconds=round(sum(state.damaged_seconds for state in states), 3),
        notes=dict(sorted(notes.items())),
        audio_hours=round(sum(state.audio_seconds for state in states) / 3600, 6),
        device=device,
        device_seconds=sum((manifest.device_seconds for manifest in committed), DeviceSeconds()).rounded(),
        tars_without_clips=sum(manifest.clips == manifest.outside_subset == 0 for manifest in committed),
        left_out=sum_left_out(manifest.left_out for manifest in committed),
        outside_subset=sum(manifest.outside_subset for manifest in committed),
        orphan_sidecars=sum(manifest.orphan_sidecars for manifest in committed),
        sidecar_faults=sum(manifest.sidecar_faults for manifest in committed),
        problems={state.name: state.problem for state in states if state.problem is not None},
        quarantined=dict(quarantined),
        working={s.name: working[s.name] for s in states if s.state != "committed" and s.name in working},
        running=running,
        stopped=stopped,
        checked=checked,
    )


def look(run: Run, states: Sequence[TarState], *, checked: bool) -> Report:
    """The report, with the state of tasks unless the run is finished or was never launched."""
    launch = run.read_state().launch
    device = launch.device if launch is not None else ""
    if launch is None or all(state.state == "committed" for state in states):
        return make_report(run.output_dir, states, checked=checked, device=device)
    standing = Standing(run, cluster_of(launch_to_look_with(run, launch), patience_s=SLURM_SECONDS))
    decision = standing.judge(states)
    return make_report(
        run.output_dir,
        states,
        checked=checked,
        quarantined=decision.quarantine,
        working=standing.workers(),
        running=standing.running(),
        stopped=standing.why_stopped(decision),
        device=device,
    )
