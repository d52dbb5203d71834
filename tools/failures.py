"""python -m tools.failures: what failed, why, where, and the commands that run just that again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hpc.run import Run
from jobs.commands import Verbose, run_command, setup_logging
from jobs.spec import read_spec
from tools.checking.failed import find
from tools.checking.failed_text import render, render_damaged
from tools.checking.rerun_commands import LIST_OPTION, commands
from tools.checking.training_report import look_at_training, render_training_failures
from tools.common.tar_lists import Listing, Written, beside, check_targets, notes_of, refuse_kept, write_lists

__all__ = ["failures"]

FAILED_LIST = "failed_tars.txt"
ERRORS_LIST = "tars_with_errors.txt"


def failures(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    failed_output: Annotated[
        Path | None, typer.Option(help=f"where to list the tars that failed and are not done; default {FAILED_LIST}")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="let the lists replace files that this run did not write")] = False,
    verbose: Verbose = False,
) -> int:
    """Report what failed. Exits 0 if nothing is left failed, 1 if something is, 2 if there is no run."""
    setup_logging(verbose=verbose)
    run = Run(output_dir.absolute())
    if look_at_training(run) is not None:
        said = render_training_failures(run)
        print("\n".join(said or [f"{run.output_dir}: nothing failed"]))
        return 1 if said else 0
    path = failed_output or Path(FAILED_LIST)
    errors_path = beside(path, ERRORS_LIST)
    check_targets(run, [run.list_file], [(LIST_OPTION, each) for each in (path, errors_path) if each is not None])
    found = find(run)
    state, spec = run.read_state(), read_spec(run.output_dir)
    failed, errors = found.failed(), found.with_errors()
    listings = [Listing("failed", path, [tar.tar for tar in failed], LIST_OPTION, asked=failed_output is not None)]
    if errors_path is not None:
        listings.append(Listing("errors", errors_path, [tar.tar for tar in errors], LIST_OPTION, asked=False))
    written = write_lists(run, listings, force=force)  # before the report: its reader may close the pipe
    for note in notes_of(written):
        print(f"note: {note}", file=sys.stderr)
    failed_list, errors_list = _usable(written, "failed"), _usable(written, "errors")
    wrong = bool(failed or errors or found.idle())
    lines = render(found)
    if wrong:
        lines += ["To run again", *commands(found, run, state, spec, failed_list, errors_list), ""]
    if failed_list is not None:
        lines.append(f"Failed tar files: {len(failed)} in {failed_list}")
    if errors_list is not None:
        lines.append(f"Tar files that have clips with errors: {len(errors)} in {errors_list}")
    print("\n".join([*(lines or [f"{run.output_dir}: nothing failed"]), *render_damaged(found)]))
    refuse_kept(written)
    return 1 if wrong else 0


def _usable(written: Sequence[Written], what: str) -> Path | None:
    """The path of a list that the next command can take."""
    return next((each.listing.path for each in written if each.listing.what == what and each.useful), None)


if __name__ == "__main__":
    run_command(failures)
