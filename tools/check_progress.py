"""python -m tools.check_progress: how far a run is, and whether what it has committed is valid."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.wording import counted
from hpc.monitor import describe_tasks
from hpc.progress import State, TarState, scan
from hpc.remote_list import changed_at_servers
from hpc.rounds import cluster_of
from hpc.run import ListedTar, Run
from hpc.stalls import describe_stalls
from hpc.standing import Running, Standing, Worker
from hpc.tar_list import read_tar_list
from hpc.trust import launch_to_look_with
from jobs.addresses import is_address, is_pipe
from jobs.channels import describe_note
from jobs.commands import Verbose, run_command, setup_logging
from jobs.console import bar_on_terminal, clock_time
from jobs.devices import available_cores
from jobs.left_out import describe_left_out, sum_left_out
from jobs.manifest import Manifest
from jobs.plain_text import plain, plain_json, plain_lines
from jobs.progress import DeviceSeconds, describe_device
from jobs.spec import TokenizeSpec, read_spec
from jobs.validation import validate_file
from tools.process_pool import Tell, in_processes
from tools.tar_lists import Listing, beside, check_targets, refuse_kept, write_lists

__all__ = ["Report", "check_progress", "make_report"]

MARKS: dict[State, str] = {"committed": "✓", "partial": "◐", "not_started": "○", "invalid": "✗"}
RULE = "=" * 80
REMAINING_LIST = "remaining_tar_files.txt"
INVALID_LIST = "invalid_tar_files.txt"
SLURM_SECONDS = 10.0
"""How long a person waits for what Slurm would add to what the files say."""
WORKING_SHOWN = 40
CHECKS_AHEAD = 16
"""Files per process that wait to be checked while a large one is."""


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
    """Clips that were kept though something of them is missing, in committed files and partials."""
    damaged_seconds: float = 0.0
    """What is missing of them."""
    notes: dict[str, int] = {}
    """Records of committed files, by what they note."""
    audio_hours: float
    """Audio that became tokens, in committed files, in partials and of long clips in hand."""
    device: str = ""
    """`cpu` or `cuda`, as the run was launched; empty for one that nobody has."""
    device_seconds: DeviceSeconds
    """What workers' devices spent their time on, over committed files; `running` has those of tasks that run."""
    tars_without_clips: int
    left_out: dict[str, int] = {}
    """Members that became no clips although they may be data, by suffix."""
    orphan_sidecars: int
    sidecar_faults: int
    problems: dict[str, str]
    """Output name -> why it is not committed or not valid."""
    quarantined: dict[str, str] = {}
    """Output name -> why the controller has given it up."""
    working: dict[str, Worker] = {}
    """Output name -> who works on it, of those that are not committed."""
    running: Running | None = None
    """Tasks of the run, where hpc.submit has begun it and something is left to do."""
    stopped: str = ""
    """Why nothing more is submitted, if that is so: the run is stuck, or cancelled."""
    checked: bool
    """Whether every line was read (--check-validity)."""
    not_asked: int = 0
    """Committed tars whose servers could not be asked then whether they have changed."""


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
        tars_without_clips=sum(manifest.clips == 0 for manifest in committed),
        left_out=sum_left_out(manifest.left_out for manifest in committed),
        orphan_sidecars=sum(manifest.orphan_sidecars for manifest in committed),
        sidecar_faults=sum(manifest.sidecar_faults for manifest in committed),
        problems={state.name: state.problem for state in states if state.problem is not None},
        quarantined=dict(quarantined),
        working={s.name: working[s.name] for s in states if s.state != "committed" and s.name in working},
        running=running,
        stopped=stopped,
        checked=checked,
    )


@dataclass(frozen=True, slots=True)
class _Check:
    """One file to validate, in another process."""

    committed: Path
    manifest: Manifest
    spec: TokenizeSpec


def _fault(check: _Check, _tell: Tell) -> str | None:
    try:
        found = validate_file(check.committed, check.manifest, check.spec).fault
    except OSError as error:
        return f"{check.committed}: cannot be read: {error.strerror}"
    return found and f"{check.committed}: {found}: move it away to have it made again"


def _validate(run: Run, states: list[TarState]) -> tuple[list[TarState], int]:
    """The states, with committed files that are not what they promise turned into invalid ones; and of how many tars at
    addresses nobody can tell whether they have changed.
    """
    committed = [state for state in states if state.state == "committed"]
    if not committed:
        return states, 0
    spec = read_spec(run.output_dir)
    if spec is None:
        raise UsageError(f"{run.spec_file}: there is no such file, so nothing says what valid tokens are: restore it")
    checks = [_Check(run.paths(s.name).committed, s.manifest, spec) for s in committed if s.manifest is not None]
    found = in_processes(_fault, checks, available_cores(), lambda _: None, ahead=CHECKS_AHEAD)
    faults: dict[str, str] = {}
    with bar_on_terminal("checking", len(checks), "tar") as bar:
        for state, fault in zip(committed, found, strict=True):
            if fault is not None:
                faults[state.name] = fault
            if bar is not None:
                bar.update()
    sizes = {s.tar: s.manifest.input_bytes for s in committed if s.manifest and is_address(s.tar) and not is_pipe(s.tar)}
    changed, not_asked = changed_at_servers(sizes)
    for state in committed:
        if state.tar in changed:
            words = f"{run.paths(state.name).committed}: {changed[state.tar]}: move it away to have it made again"
            faults.setdefault(state.name, words)
    checked = [
        TarState(state.tar, state.name, "invalid", 0, state.manifest, faults[state.name]) if state.name in faults else state
        for state in states
    ]
    return checked, not_asked


def render(report: Report, states: Sequence[TarState], *, verbose: bool) -> str:
    """The report in words."""
    lines = [
        f"Checking progress for {counted(report.total_tars, 'tar file')}...",
        f"Output directory: {report.output_dir}",
        "",
    ]
    lines += _tar_lines(report, states, verbose=verbose)
    total = report.total_tars
    remaining = total - report.completed
    lines += [
        RULE,
        "PROGRESS SUMMARY",
        RULE,
        f"Total tar files:       {total}",
        f"Completed:             {report.completed} ({_percent(report.completed, total)})",
        f"Remaining:             {remaining} ({_percent(remaining, total)})",
    ]
    if remaining:
        lines.append(f"  partial:             {report.partial}")
        lines.append(f"  not started:         {report.not_started}")
        lines.append(f"  invalid:             {report.invalid}")
    if report.quarantined:
        lines.append(f"In quarantine:         {len(report.quarantined)} (python -m tools.failures says why)")
    if report.running is not None:
        lines.append(f"Running:               {_describe_running(report.running)}")
        lines += [f"No progress:           {words}" for words in describe_stalls(report.running.stalls)]
    if report.stopped:
        lines.append(f"Stopped:               nothing more is submitted: {plain_lines(report.stopped)}")
    lines += _clip_lines(report, examples=any(state.state == "committed" and state.damaged_clips for state in states))
    lines += [f"Note:                  {note}" for note in _notes(report)]
    if report.checked:
        lines.append(
            f"Validity:              {counted(report.completed, 'file')} valid in every line, {report.invalid} invalid"
        )
    return "\n".join(lines)


def _clip_lines(report: Report, *, examples: bool) -> list[str]:
    """`examples`: committed files have damaged clips, of which `tools.failures` shows some."""
    lines = [f"Clips:                 {report.clips:,}", f"Audio:                 {report.audio_hours:,.2f} hours"]
    if device := _describe_device(report):
        lines.append(f"Device:                {device}")
    if report.errors:
        named = ", ".join(f"{kind} {number}" for kind, number in report.errors.items())
        lines.append(f"Clips with errors:     {sum(report.errors.values()):,} ({named})")
    if report.damaged_clips:
        where = "python -m tools.failures shows some" if examples else "python -m tools.show NAME marks them"
        missing = f"{report.damaged_seconds:,.3f} s missing; {where}"
        lines.append(f"Damaged clips, kept:   {report.damaged_clips:,} ({missing})")
    return lines


def _notes(report: Report) -> list[str]:
    """What data may be missing of committed tars."""
    counts = (
        (report.tars_without_clips, "tar", "without any clip"),
        (
            report.orphan_sidecars,
            "sidecar",
            "without audio of its name, in no record: if it is a text, unpack the tar and give the folder to tools.pack",
        ),
        (report.sidecar_faults, "sidecar", "that could not be read, or not all of it: metadata.sidecar_errors says why"),
        *((number, "clip", describe_note(note)) for note, number in report.notes.items()),
        (report.not_asked, "tar", "at an address of which nobody can tell now whether it has changed since"),
    )
    notes = [f"{counted(number, noun)} {words}" for number, noun, words in counts if number]
    return [*notes, *([plain(describe_left_out(report.left_out))] if report.left_out else [])]


def _tar_lines(report: Report, states: Sequence[TarState], *, verbose: bool) -> list[str]:
    """A line per tar that needs a person or that somebody works on; with `verbose`, of every tar."""
    shown = report.problems.keys() | (report.working.keys() if len(report.working) <= WORKING_SHOWN else set())
    width = len(str(len(states)))
    lines = []
    for number, state in enumerate(states, 1):
        if verbose or state.name in shown:
            at = f": {report.working[state.name]}" if state.name in report.working else ""
            words = plain(f"{Path(state.tar).name}{_remark(state)}{at}")
            lines.append(f"[{number:>{width}}/{len(states)}] {MARKS[state.state]} {words}")
    return [*lines, ""] if lines else []


def _describe_running(found: Running) -> str:
    if not found.known:
        return "not known now"
    words = describe_tasks(found.running, found.pending, found.reasons)
    return "; ".join([*words, *([f"{counted(found.unknown, 'submission')} not known now"] if found.unknown else [])])


def _describe_device(report: Report) -> str:
    """Of the tasks that run, or where none has anything to tell, of all that is committed."""
    live = report.running.device_seconds if report.running is not None else DeviceSeconds()
    return describe_device(live if live.total > 0 else report.device_seconds, gpu=report.device not in ("", "cpu"))


def _remark(state: TarState) -> str:
    problem = f": {state.problem}" if state.problem else ""
    if state.state == "partial":
        begun = f", {clock_time(state.long_clip_seconds)} of a long one" if state.long_clip_seconds else ""
        return f" (partial: {counted(state.clips, 'clip')} processed{begun}){problem}"
    if state.state == "not_started":
        return f" (not started){problem}"
    if state.state == "committed":
        return f" ({counted(state.clips, 'clip')})" if state.clips else " (no clips)"
    return problem


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "0.0%"


def _tars_of(run: Run, tar_list: Path | None, *, keep_dirs: bool) -> list[ListedTar]:
    if tar_list is None:
        listed = run.listed()
        if not listed:
            raise UsageError(f"{run.output_dir}: no run here yet: give its list with --tar-list, or another --output-dir")
        return listed
    tars = read_tar_list(tar_list, known=[tar.tar for tar in run.listed()])
    return run.add_to_list(tars, keep_dirs=keep_dirs, dry_run=True)


def check_progress(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    tar_list: Annotated[
        Path | None, typer.Option("--tar-list", "--list", help="only these tars; default: the run's")
    ] = None,
    check_validity: Annotated[
        bool, typer.Option("--check-validity", help="read every line of every committed file")
    ] = False,
    remaining_output: Annotated[
        Path | None, typer.Option(help=f"where to list the tars that are not done; default {REMAINING_LIST}")
    ] = None,
    completed_output: Annotated[Path | None, typer.Option(help="where to list the tars that are done")] = None,
    force: Annotated[bool, typer.Option("--force", help="let the lists replace files that this run did not write")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON, and nothing else")] = False,
    keep_dirs: Annotated[
        bool, typer.Option("--keep-dirs", help="name tars that the run does not have yet as hpc.submit --keep-dirs would")
    ] = False,
    verbose: Verbose = False,
) -> int:
    """Say how far a run is. Exits 0 with a true report, 1 if there are invalid files, 2 if asked for what is not there."""
    setup_logging(verbose=verbose)
    if not verbose:  # that squeue does not answer is said in the report
        logging.getLogger("tar2tokens").setLevel(logging.ERROR)
    run = Run(output_dir.absolute())
    check_targets(
        run,
        [run.list_file, *([tar_list] if tar_list is not None else [])],
        [(listing.option, listing.path) for listing in _listings((), remaining_output, completed_output)],
    )
    states = list(scan(run, _tars_of(run, tar_list, keep_dirs=keep_dirs)))
    not_asked = 0
    if check_validity:
        states, not_asked = _validate(run, states)
    report = msgspec.structs.replace(_look(run, states, checked=check_validity), not_asked=not_asked)
    # before the report, which may be piped into something that stops reading
    written = write_lists(run, _listings(states, remaining_output, completed_output), force=force)
    for note in (each.note for each in written if each.note and not (each.kept and each.listing.asked)):
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(plain_json(msgspec.json.format(msgspec.json.encode(report)).decode()))
    else:
        names = [f"{each.listing.what} tar files: {each.listing.path}" for each in written if each.useful]
        print("\n".join([render(report, states, verbose=verbose), *names]))
    refuse_kept(written)
    return 1 if report.invalid else 0


def _look(run: Run, states: Sequence[TarState], *, checked: bool) -> Report:
    """The report, with what there is to say of tasks; a run that is done, or that nobody has launched, has none."""
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


def _listings(states: Sequence[TarState], remaining: Path | None, completed: Path | None) -> list[Listing]:
    """The lists for the next command."""
    path = remaining or Path(REMAINING_LIST)
    left = [state.tar for state in states if state.state != "committed"]
    found = [Listing("Remaining", path, left, "--remaining-output", asked=remaining is not None)]
    if (invalid := beside(path, INVALID_LIST)) is not None:
        tars = [state.tar for state in states if state.state == "invalid"]
        found.append(Listing("Invalid", invalid, tars, "--remaining-output", asked=False))
    if completed is not None:
        done = [state.tar for state in states if state.state == "committed"]
        found.append(Listing("Completed", completed, done, "--completed-output", asked=True))
    return found


if __name__ == "__main__":
    run_command(check_progress)
