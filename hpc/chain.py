"""Rounds as small Slurm jobs, each of which submits its successor, so that no process has to stay on a login node."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from audio_tokenizers.errors import InfrastructureError, Tar2TokensError, UsageError
from audio_tokenizers.shared.command_names import called
from hpc.cluster import JobNumber, SubmitLimitError
from hpc.controller import Round
from hpc.environment import task_environment
from hpc.fresh_report import FreshReport
from hpc.launch import Launch
from hpc.rounds import EXIT_CODES, launch_of, make_controller, one_round
from hpc.run import Run
from hpc.slurm import SlurmCluster
from hpc.trust import open_run
from jobs.commands import command_parser, setup_logging
from jobs.fileops import StorageError, end_last_line
from jobs.run_module import module_command

__all__ = ["CHAIN_MINUTES", "cancel_chain", "chain_name", "chain_text", "run_link", "start_chain"]

CHAIN_MINUTES = 30
RESERVE_DELAY = "now+10minutes"
"""The successor is submitted before the round begins, in case this job dies in it."""
TRIES, PAUSE_SECONDS = 20, 60.0
REPORT_SECONDS = 300.0
"""How long a link waits for the report that it has started, which would end with its job."""

log = logging.getLogger("tar2tokens")


def chain_name(run: Run) -> str:
    """The name of the run's chain jobs."""
    return f"tar2tokens-{run.read_state().run_id}-chain"


def chain_text(run: Run, launch: Launch) -> str:
    """The batch script of one link. Pure, except for the interpreter's path."""
    options = [
        f"--time={CHAIN_MINUTES}",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--no-requeue",
        f"--chdir={run.output_dir}",
        f"--output={run.folder / 'chain.log'}",
        "--open-mode=append",
        *(f"--{name}={value}" for name in ("clusters", "partition", "account", "qos") if (value := getattr(launch, name))),
    ]
    command = shlex.join(module_command("hpc.chain", run.output_dir, *filter(None, [launch.group])))
    return "\n".join(
        ["#!/bin/bash", *(f"#SBATCH {shlex.quote(option)}" for option in options), *launch.setup, f"exec {command}", ""]
    )


def start_chain(run: Run, launch: Launch) -> int:
    """Submit the first link, unless there is a chain already."""
    cluster = _slurm(launch)
    name = chain_name(run)
    links = cluster.find_jobs(name)
    if links:
        print(f"there is a chain already: job {', '.join(link.job_id for link in links)}")
        return 0
    try:
        job = cluster.submit_script(name, chain_text(run, launch))
    except SubmitLimitError as error:
        raise InfrastructureError(
            f"{error}: no room for the chain's own job; run this again when tasks have ended"
        ) from None
    print(
        f"job {job.job_id} does the next round and submits its successor; {run.folder / 'chain.log'} has the output of each"
    )
    return 0


def cancel_chain(run: Run, cluster: SlurmCluster) -> None:
    """End the chain."""
    cluster.cancel_name(chain_name(run))


def run_link(run: Run, sleep: Callable[[float], None] = time.sleep) -> int:
    """What a chain job does: submit its successor, do a round, and make the successor wait for the round's tasks.

    While Slurm does not answer or takes no job it asks again, since a link that gave up would end the chain.
    """
    launch = launch_of(run)
    cluster = _slurm(launch)
    successor = _patiently(lambda: _successor(run, launch, cluster), sleep)
    report = FreshReport(run)
    try:
        return _do_round(run, launch, cluster, successor, report)
    finally:
        report.wait(REPORT_SECONDS)


def _do_round(run: Run, launch: Launch, cluster: SlurmCluster, successor: JobNumber, report: FreshReport) -> int:
    rounds: list[Round] = []

    def saw(seen: Round) -> None:
        rounds.append(seen)
        report.refresh(len(seen.states), ended=seen.decision.outcome != "running")

    try:
        code = one_round(run, note=saw)
    except UsageError:  # such as a job that Slurm refuses for good: every later link would meet the same
        cluster.cancel_job(successor)
        raise
    if code != EXIT_CODES["running"]:
        if any(seen.decision.passes for seen in rounds):
            print(f"job {successor.job_id} tries again in ten minutes", flush=True)
            return code
        cluster.cancel_job(successor)
        return code
    found = [job for _, job in make_controller(run, cluster, launch).open_jobs().values()]
    jobs = [
        job.job_id for job in found if job.job_id and (job.cluster or "") == successor.cluster
    ]  # a job can depend on no others
    if jobs:
        cluster.wait_for_jobs(successor, jobs)
    print(f"job {successor.job_id} comes next, after {', '.join(jobs) or 'ten minutes'}", flush=True)
    return 0


def _successor(run: Run, launch: Launch, cluster: SlurmCluster) -> JobNumber:
    """The link that is pending already, or a new one, which starts after this one has ended."""
    name, me = chain_name(run), os.environ.get("SLURM_JOB_ID")
    pending = [job for job in cluster.find_jobs(name, pending=True) if job.job_id != me]
    if pending:
        return pending[0]
    after = [f"--dependency=afterany:{me}"] if me else []
    return cluster.submit_script(name, chain_text(run, launch), f"--begin={RESERVE_DELAY}", *after)


def _patiently(ask: Callable[[], JobNumber], sleep: Callable[[float], None]) -> JobNumber:
    """The answer of the first of TRIES calls that Slurm answers."""
    for _ in range(TRIES - 1):
        try:
            return ask()
        except (InfrastructureError, SubmitLimitError) as error:
            log.warning("%s; asking again in %g s", error, PAUSE_SECONDS)
            sleep(PAUSE_SECONDS)
    return ask()


def _slurm(launch: Launch) -> SlurmCluster:
    if launch.cluster != "slurm":
        raise UsageError(f"--chain: this run is on one machine; without --chain, {called('hpc.resume')} works on it")
    return SlurmCluster(task_environment(launch), clusters=launch.clusters)


if __name__ == "__main__":
    parser = command_parser("One link of a chain of rounds, as a Slurm job. hpc.resume --chain submits the first.")
    parser.add_argument("output_dir", type=Path, help="the run directory")
    parser.add_argument("group", nargs="?", help="the group that shares it")
    given = parser.parse_args()
    setup_logging(verbose=False)
    try:
        opened = open_run(given.output_dir, given.group)[0]
        with suppress(OSError):  # there may be no room for it
            end_last_line(opened.folder / "chain.log")
        sys.exit(run_link(opened))
    except StorageError as problem:
        log.error("%s; the next job of the chain tries again", problem)
        sys.exit(problem.exit_code)
    except Tar2TokensError as problem:
        log.error("the chain ends: %s", problem)
        sys.exit(problem.exit_code)
