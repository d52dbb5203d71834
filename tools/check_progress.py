"""python -m tools.check_progress: how far a run is, and whether its committed files are valid."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from hpc.progress import TarState, scan
from hpc.run import ListedTar, Run
from hpc.tar_list import read_tar_list
from jobs.commands import Verbose, run_command, setup_logging
from jobs.plain_text import plain_json
from tools.checking.report import Report, look
from tools.checking.report_text import render
from tools.checking.token_reading import read_totals
from tools.checking.token_report import report_tokens
from tools.checking.token_text import render_tokens
from tools.checking.training_report import TrainingReport, look_at_training, render_training
from tools.checking.validity import validate
from tools.common.tar_lists import Listing, beside, check_targets, notes_of, refuse_kept, write_lists

__all__ = ["check_progress"]

REMAINING_LIST = "remaining_tar_files.txt"
INVALID_LIST = "invalid_tar_files.txt"


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
    tokens: Annotated[
        bool, typer.Option("--tokens", help="report what the tokens are like, and warn of what looks wrong")
    ] = False,
    remaining_output: Annotated[
        Path | None, typer.Option(help=f"where to list the tars that are not done; default {REMAINING_LIST}")
    ] = None,
    completed_output: Annotated[Path | None, typer.Option(help="where to list the tars that are done")] = None,
    force: Annotated[bool, typer.Option("--force", help="let the lists replace files that this run did not write")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON, and nothing else")] = False,
    keep_dirs: Annotated[
        bool,
        typer.Option("--keep-dirs", help="name tars that the run does not have yet as a submission with --keep-dirs would"),
    ] = False,
    verbose: Verbose = False,
) -> int:
    """Report how far a run is. Exits 0 with a report, 1 if files are invalid, 2 on wrong usage or if there is no run.
    Warnings about tokens change no exit code.
    """
    setup_logging(verbose=verbose)
    if not verbose:  # the report says when squeue does not answer
        logging.getLogger("tar2tokens").setLevel(logging.ERROR)
    run = Run(output_dir.absolute())
    if (training := look_at_training(run)) is not None:
        if tar_list or check_validity or tokens or remaining_output or completed_output:
            raise UsageError(f"{run.output_dir}: a training: expected no options about tars, only --json")
        _print(training, render_training(training), as_json=as_json)
        return 0
    check_targets(
        run,
        [run.list_file, *([tar_list] if tar_list is not None else [])],
        [(listing.option, listing.path) for listing in _listings((), remaining_output, completed_output)],
    )
    states = list(scan(run, _tars_of(run, tar_list, keep_dirs=keep_dirs)))
    not_asked = 0
    if check_validity:
        states, not_asked = validate(run, states)
    report = msgspec.structs.replace(look(run, states, checked=check_validity), not_asked=not_asked)
    if tokens:
        found = report_tokens(read_totals(run, states, count=check_validity))
        report = msgspec.structs.replace(report, tokens=found)
    # Before the report: its reader may close the pipe.
    written = write_lists(run, _listings(states, remaining_output, completed_output), force=force)
    for note in notes_of(written):
        print(f"note: {note}", file=sys.stderr)
    names = [f"{each.listing.what} tar files: {each.listing.path}" for each in written if each.useful]
    about_tokens = render_tokens(report.tokens) if report.tokens is not None else []
    _print(report, "\n".join([render(report, states, verbose=verbose), *about_tokens, *names]), as_json=as_json)
    refuse_kept(written)
    return 1 if report.invalid else 0


def _print(report: Report | TrainingReport, text: str, *, as_json: bool) -> None:
    print(plain_json(msgspec.json.format(msgspec.json.encode(report)).decode()) if as_json else text)


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
