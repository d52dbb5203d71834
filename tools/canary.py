"""python -m tools.canary: tokenize a few clips before the whole list, to see that it works and what it takes."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Annotated

import typer

from hpc.begin_run import ListOptions, begin_run
from hpc.launch_options import LaunchOptions
from hpc.run import Run
from hpc.trust import check_run
from jobs.commands import WHAT, OutputDir, Verbose, run_command, setup_logging, writing_to
from jobs.option_struct import Only, with_options
from jobs.plain_text import warn
from jobs.recipe_options import BackendOptions
from jobs.worker_options import SharingOptions, WishOptions
from tools.common.findings import AsJson, Wait, collect, exit_code, show, summary
from tools.rehearsing.rehearsal import Asked, rehearse

__all__ = ["canary"]


@with_options
def canary(
    *,
    which: ListOptions,
    recipe: BackendOptions,
    wishes: Annotated[WishOptions, Only(("allow_missing_end", "allow_joined", "allow_pipe"))],
    clips: Annotated[
        int, typer.Option(min=2, help="how many clips, from the beginnings of two random tars", rich_help_panel=WHAT)
    ] = 100,
    seed: Annotated[int, typer.Option(help="which tars: the same seed chooses the same ones", rich_help_panel=WHAT)] = 0,
    output_dir: OutputDir = Path("tokens"),
    launch: LaunchOptions,
    sharing: SharingOptions,
    wait: Wait = 600.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Tokenize a few clips in several ways, compare the tokens, and plan the whole list. Exits 0 for go, 1 for no.

    Example: --list tars.txt --backend higgs --output-dir tokens
    """
    setup_logging(verbose=verbose, quiet=True)
    trust = sharing.trust()
    os.umask(trust.umask)
    run = Run(output_dir.absolute(), trust)
    check_run(run, trust)
    begun = begin_run(run, which, recipe, wishes, launch, trust, dry_run=True)
    scratch = _place(run.output_dir) / f".tar2tokens-canary-{uuid.uuid4().hex[:12]}"
    code = 1
    try:
        with writing_to(scratch):
            scratch.mkdir()
            findings = collect(rehearse(Asked(begun, scratch, clips, seed, wait)), as_json=as_json)
        code = exit_code(findings)
    finally:
        if code == 0:
            shutil.rmtree(scratch, ignore_errors=True)
        if scratch.exists():
            warn(f"kept: {scratch} has the runs and their logs; remove it with rm -rf")
    show(findings, f"{'no' if code else 'go'}: {summary(findings)}", as_json=as_json)
    return code


def _place(output_dir: Path) -> Path:
    """Where nodes see files as they see those of the output directory: the nearest folder above it that exists, or itself
    if nothing can be written there.
    """
    above = next((folder for folder in output_dir.parents if folder.is_dir()), output_dir)
    return above if os.access(above, os.W_OK) or not output_dir.is_dir() else output_dir


if __name__ == "__main__":
    run_command(canary)
