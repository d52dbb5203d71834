"""python -m tools.check_progress: how far a run is, and whether what it has committed is valid."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from tqdm import tqdm

from audio_tokenizers.errors import UsageError
from hpc.progress import State, TarState, scan
from hpc.run import ListedTar, Run
from hpc.tar_list import name_tars, read_tar_list
from jobs.commands import Verbose, run_command, setup_logging
from jobs.devices import available_cores
from jobs.fileops import FileOps, write_atomically
from jobs.records import Manifest
from jobs.spec import TokenizeSpec, read_spec
from jobs.validation import changed_input, validate_file

__all__ = ["Report", "check_progress", "make_report"]

MARKS: dict[State, str] = {"committed": "✓", "partial": "◐", "not_started": "○", "invalid": "✗"}
RULE = "=" * 80


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
    audio_hours: float
    """Audio that became tokens, in committed files."""
    tars_without_clips: int
    orphan_sidecars: int
    sidecar_faults: int
    problems: dict[str, str]
    """Output name -> why it is not committed or not valid."""
    checked: bool
    """Whether every line was read (--check-validity)."""


def make_report(output_dir: Path, states: Sequence[TarState], *, checked: bool) -> Report:
    """Pure: count states."""
    count = Counter(state.state for state in states)
    committed = [state.manifest for state in states if state.state == "committed" and state.manifest is not None]
    errors: Counter[str] = Counter()
    for manifest in committed:
        errors.update(manifest.errors)
    return Report(
        output_dir=str(output_dir),
        total_tars=len(states),
        completed=count["committed"],
        partial=count["partial"],
        not_started=count["not_started"],
        invalid=count["invalid"],
        clips=sum(state.clips for state in states),
        errors=dict(sorted(errors.items())),
        audio_hours=round(sum(manifest.audio_seconds for manifest in committed) / 3600, 6),
        tars_without_clips=sum(manifest.clips == 0 for manifest in committed),
        orphan_sidecars=sum(manifest.orphan_sidecars for manifest in committed),
        sidecar_faults=sum(manifest.sidecar_faults for manifest in committed),
        problems={state.name: state.problem for state in states if state.problem is not None},
        checked=checked,
    )


@dataclass(frozen=True, slots=True)
class _Check:
    """One file to validate, in another process."""

    tar: str
    committed: Path
    manifest: Manifest
    spec: TokenizeSpec


def _fault(check: _Check) -> str | None:
    try:
        found = validate_file(check.committed, check.manifest, check.spec).fault
    except OSError as error:
        found = f"cannot be read: {error.strerror}"
    return found or changed_input(Path(check.tar), check.manifest)


def _validate(run: Run, states: Sequence[TarState], spec: TokenizeSpec) -> list[TarState]:
    """The states, with committed files that are not what they promise turned into invalid ones."""
    committed = [state for state in states if state.state == "committed"]
    checks = [_Check(s.tar, run.paths(s.name).committed, s.manifest, spec) for s in committed if s.manifest is not None]
    workers = min(available_cores(), len(checks)) or 1
    # spawn: a fork of a process that has threads may hang
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(tqdm(pool.map(_fault, checks), total=len(checks), unit="tar", disable=not sys.stderr.isatty()))
    faults = {state.name: fault for state, fault in zip(committed, found, strict=True) if fault is not None}
    return [
        replace(state, state="invalid", problem=faults[state.name]) if state.name in faults else state for state in states
    ]


def render(report: Report, states: Sequence[TarState], *, verbose: bool) -> str:
    """The report in words."""
    lines = [f"Checking progress for {report.total_tars} tar files...", f"Output directory: {report.output_dir}", ""]
    width = len(str(len(states)))
    for number, state in enumerate(states, 1):
        if verbose or state.problem is not None:
            lines.append(f"[{number:>{width}}/{len(states)}] {MARKS[state.state]} {Path(state.tar).name}{_remark(state)}")
    if verbose or report.problems:
        lines.append("")
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
    lines.append(f"Clips:                 {report.clips:,}")
    lines.append(f"Audio:                 {report.audio_hours:,.2f} hours")
    if report.errors:
        named = ", ".join(f"{kind} {number}" for kind, number in report.errors.items())
        lines.append(f"Clips with errors:     {sum(report.errors.values()):,} ({named})")
    for number, words in (
        (report.tars_without_clips, "tars without any clip"),
        (report.orphan_sidecars, "sidecars without audio beside them"),
        (report.sidecar_faults, "sidecars that could not be read"),
    ):
        if number:
            lines.append(f"Note:                  {number:,} {words}")
    if report.checked:
        lines.append(f"Validity:              every line of {report.completed + report.invalid} files checked")
    return "\n".join(lines)


def _remark(state: TarState) -> str:
    problem = f": {state.problem}" if state.problem else ""
    if state.state == "partial":
        return f" (partial: {state.clips} clips processed){problem}"
    if state.state == "not_started":
        return f" (not started){problem}"
    if state.state == "committed":
        return f" ({state.clips} clips)" if state.clips else " (no clips)"
    return problem


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "0.0%"


def _tars_of(run: Run, tar_list: Path | None) -> list[ListedTar]:
    listed = run.listed()
    if tar_list is None:
        if not listed:
            raise UsageError(f"{run.output_dir}: no run here yet: give its list with --tar-list, or another --output-dir")
        return listed
    known = {tar.tar: tar for tar in listed}
    wanted = read_tar_list(tar_list)
    names = name_tars([tar for tar in wanted if tar not in known], keep_dirs=False, taken={})
    return [known.get(tar) or ListedTar(tar, names[tar]) for tar in wanted]


def check_progress(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    tar_list: Annotated[
        Path | None, typer.Option("--tar-list", "--list", help="only these tars; default: the run's")
    ] = None,
    check_validity: Annotated[
        bool, typer.Option("--check-validity", help="read every line of every committed file")
    ] = False,
    remaining_output: Annotated[Path, typer.Option(help="where to list the tars that are not done")] = Path(
        "remaining_tar_files.txt"
    ),
    completed_output: Annotated[Path | None, typer.Option(help="where to list the tars that are done")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON, and nothing else")] = False,
    verbose: Verbose = False,
) -> int:
    """Say how far a run is. Exits 0 with a true report, 1 if there are invalid files, 2 if asked for what is not there."""
    setup_logging(verbose=verbose)
    run = Run(output_dir.absolute())
    tars = _tars_of(run, tar_list)
    states = list(scan(run, tars))
    spec = read_spec(run.output_dir)
    if check_validity and spec is not None:
        states = _validate(run, states, spec)
    report = make_report(run.output_dir, states, checked=check_validity)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print(render(report, states, verbose=verbose))
    _write_lists(states, remaining_output, completed_output, quiet=as_json)
    return 1 if report.invalid else 0


def _write_lists(states: Sequence[TarState], remaining: Path, completed: Path | None, *, quiet: bool) -> None:
    """Lists for the next command; one that would be empty is removed, so that no old list is taken for today's."""
    invalid = remaining.with_name("invalid_tar_files.txt")
    lists = [
        (remaining, "Remaining", [s.tar for s in states if s.state != "committed"]),
        (invalid, "Invalid", [s.tar for s in states if s.state == "invalid"]),
    ]
    if completed is not None:
        lists.append((completed, "Completed", [s.tar for s in states if s.state == "committed"]))
    for path, what, tars in lists:
        if tars:
            text = "".join(f"{tar}\n" for tar in tars)
            write_atomically(FileOps(), path, text.encode("utf-8", "surrogateescape"))
            if not quiet:
                print(f"{what} tar files: {path}")
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    run_command(check_progress)
