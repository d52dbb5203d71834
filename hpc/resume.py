"""python -m hpc.resume: the controller. It resubmits what is left until the list is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from hpc.chain import start_chain
from hpc.fresh_report import FreshReport
from hpc.rounds import one_round, watch
from hpc.trust import open_run
from jobs.commands import Verbose, number_parser, run_command, setup_logging, writing_to

__all__ = ["resume"]


def resume(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    keep_watching: Annotated[bool, typer.Option("--watch", help="do rounds until the end (the default)")] = False,
    once: Annotated[bool, typer.Option("--once", help="one round, for cron")] = False,
    chain: Annotated[bool, typer.Option("--chain", help="do the rounds as small Slurm jobs, one after the other")] = False,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="forget what counts against tars, clips and nodes")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="the group that shares the run: its members can run commands in your name")
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            parser=number_parser("seconds from 0.1 on, without a unit", 0.1),
            metavar="FLOAT",
            help="seconds between rounds of --watch",
        ),
    ] = None,
    verbose: Verbose = False,
) -> int:
    """Continue a run until it is finished. Exits 0 finished, 75 still running, 3 finished except for a quarantine, 4 stuck,
    2 wrong usage.

    Kill it and start it again whenever you like: all it knows is in files and in Slurm.
    """
    setup_logging(verbose=verbose, quiet=True)
    if keep_watching + once + chain > 1:
        raise UsageError("--watch, --once and --chain: expected one of them")
    run, launch = open_run(output_dir, group)
    if retry_quarantined:
        with writing_to(run.output_dir):
            latest = max([submission.number for submission in run.submissions()], default=0)
            run.write_state(msgspec.structs.replace(run.read_state(), amnesty=latest))
    if chain:
        return start_chain(run, launch)
    if once:
        report = FreshReport(run)
        code = one_round(run, note=lambda seen: report.refresh(len(seen.states), ended=seen.decision.outcome != "running"))
        report.wait()
        return code
    return watch(run, launch, seconds=interval)


if __name__ == "__main__":
    run_command(resume)
