"""python -m tools.doctor: check that a site does what a run relies on, and say what to do if not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from hpc.environment import kept_environment
from hpc.launch import Site, check_cluster, make_launch, overlay, site_defaults
from hpc.personal import personal_defaults
from hpc.trust import of_code
from jobs.commands import Verbose, number_parser, run_command, setup_logging
from jobs.spec import uses_gpu
from jobs.trust import trust_of
from tools.doctoring.examination import Asked, examine
from tools.doctoring.findings import exit_code, in_words, summary

__all__ = ["doctor"]

PATIENT_SECONDS = "600"


def doctor(
    output_dir: Annotated[Path, typer.Option(help="where a run is to write; nothing is left there")] = Path("tokens"),
    tar_list: Annotated[Path | None, typer.Option("--list", "--tar-list", help="a list of tars, to look at too")] = None,
    backend: Annotated[str | None, typer.Option(help="preset or backend, whose files to look at")] = None,
    model_path: Annotated[str | None, typer.Option(help="local directory or hub id of the weights")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="a backend's option=value")] = None,
    cluster: Annotated[str | None, typer.Option(help="auto: Slurm where there is sbatch; slurm; local")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    partition: Annotated[str | None, typer.Option(help="Slurm")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm")] = None,
    qos: Annotated[str | None, typer.Option(help="Slurm")] = None,
    constraint: Annotated[str | None, typer.Option(help="Slurm")] = None,
    gpus_per_node: Annotated[str | None, typer.Option(help="Slurm: as for hpc.submit")] = None,
    nodes: Annotated[int, typer.Option(min=0, help="Slurm: how many nodes to ask by srun")] = 2,
    wait: Annotated[
        float,
        typer.Option(
            parser=number_parser("seconds from 1 on, without a unit", 1),
            metavar="FLOAT",
            help="Slurm: seconds to wait for free nodes",
        ),
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON array, for programs")] = False,
    verbose: Verbose = False,
) -> int:
    """Check everything that a run relies on. Exits 0, 1 if there are faults, 2 on wrong usage. Submits no batch job."""
    setup_logging(verbose=verbose, quiet=True)
    site = Site(
        cluster=check_cluster(cluster),
        partition=partition,
        account=account,
        qos=qos,
        constraint=constraint,
        gpus_per_node=gpus_per_node,
    )
    launch = make_launch(
        overlay(overlay(personal_defaults(os.environ), site_defaults(trust=of_code(trust_of()))), site),
        device=device,
        workers=None,
        allow_missing_end=False,
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
        gpus=launch.device.startswith("cuda"),
        nodes=nodes,
        wait_s=wait,
        again=("python", "-m", "tools.doctor", *_without_wait(sys.argv[1:]), "--wait", PATIENT_SECONDS),
    )
    findings = []
    for finding in examine(asked):
        findings.append(finding)
        if not as_json:
            print(in_words(finding), flush=True)
    print(msgspec.json.format(msgspec.json.encode(findings)).decode() if as_json else summary(findings))
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
