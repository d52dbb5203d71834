"""python -m hpc.cancel: end a run's tasks, and submit no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.chain import cancel_chain
from hpc.rounds import cluster_of, make_controller
from hpc.slurm import SlurmCluster
from hpc.trust import open_run
from jobs.commands import Verbose, run_command, setup_logging, writing_to

__all__ = ["cancel"]


def cancel(
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    group: Annotated[
        str | None, typer.Option(help="the group that shares the run: its members can run commands in your name")
    ] = None,
    verbose: Verbose = False,
) -> int:
    """End all tasks of a run, and submit no more until the next hpc.submit. No line is lost."""
    setup_logging(verbose=verbose)
    run, launch = open_run(output_dir, group)
    cluster = cluster_of(launch)
    with writing_to(run.output_dir):
        run.write_state(msgspec.structs.replace(run.read_state(), cancelled=True))  # first: a round may be under way
        jobs = make_controller(run, cluster, launch).open_jobs()
    if isinstance(cluster, SlurmCluster):
        cancel_chain(run, cluster)
    cluster.cancel(jobs)
    tasks = counted(sum(job.elements for _, job in jobs.values()), "task")
    ended = f"{counted(len(jobs), 'job')} with up to {tasks} told to end" if jobs else "no task is queued or running"
    print(f"{ended}; nothing more is submitted until {called('hpc.submit')} continues the run")
    return 0


if __name__ == "__main__":
    run_command(cancel)
