"""python -m tools.doctor: check that a site does what a run relies on, and say what to do if not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hpc.environment import kept_environment
from hpc.launch import make_launch
from hpc.launch_options import LaunchOptions, overlay
from hpc.personal import personal_defaults
from hpc.site_file import site_defaults
from hpc.trust import of_code
from jobs.commands import SLURM, WHAT, WHERE, Verbose, run_command, setup_logging
from jobs.option_struct import Only, with_options
from jobs.spec import uses_gpu
from jobs.trust import trust_of
from tools.common.findings import AsJson, Wait, collect, exit_code, show, summary
from tools.doctoring.examination import Asked, examine

__all__ = ["doctor"]

PATIENT_SECONDS = "600"


@with_options
def doctor(
    site: Annotated[
        LaunchOptions, Only(("cluster", "device", "partition", "account", "qos", "constraint", "gpus_per_node"))
    ],
    output_dir: Annotated[
        Path, typer.Option(help="where a run is to write; nothing is left there", rich_help_panel=WHERE)
    ] = Path("tokens"),
    tar_list: Annotated[
        Path | None, typer.Option("--list", "--tar-list", help="a list of tars, to look at too", rich_help_panel=WHAT)
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="preset or backend, whose files to look at", rich_help_panel=WHAT)
    ] = None,
    model_path: Annotated[
        str | None, typer.Option(help="local directory or hub id of the weights", rich_help_panel=WHAT)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a backend's option=value", rich_help_panel=WHAT)
    ] = None,
    nodes: Annotated[int, typer.Option(min=0, help="how many nodes to ask by srun", rich_help_panel=SLURM)] = 2,
    wait: Wait = 30.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Check everything that a run relies on. Exits 0, 1 if there are faults, 2 on wrong usage. Submits no batch job.

    Example: --list tars.txt --backend higgs --output-dir tokens
    """
    setup_logging(verbose=verbose, quiet=True)
    defaults = overlay(personal_defaults(os.environ), site_defaults(trust=of_code(trust_of())))
    launch = make_launch(
        overlay(defaults, site),
        environment=kept_environment(os.environ),
        uses_gpu=backend is None or uses_gpu(backend),  # UsageError if there is no such backend
    )
    asked = Asked(
        output_dir.absolute(),
        launch,
        tar_list=tar_list,
        backend=backend,
        model_path=model_path,
        settings=tuple(settings or ()),
        slurm=launch.cluster == "slurm",
        gpus=launch.device == "cuda",
        mps=launch.device == "mps",
        nodes=nodes,
        wait_s=wait,
        again=("python", "-m", "tools.doctor", *_without_wait(sys.argv[1:]), "--wait", PATIENT_SECONDS),
    )
    findings = collect(examine(asked), as_json=as_json)
    show(findings, summary(findings), as_json=as_json)
    return exit_code(findings)


def _without_wait(words: Sequence[str]) -> Iterator[str]:
    """The words of a command line without --wait."""
    rest = iter(words)
    for word in rest:
        if word == "--wait":
            next(rest, None)
        elif not word.startswith("--wait="):
            yield word


if __name__ == "__main__":
    run_command(doctor)
