"""Rounds of the controller: one, or one after another until the list is finished or nothing more can be done."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted
from hpc.broadcast import broadcasting
from hpc.cluster import Cluster, SubmitRefusedError
from hpc.controller import Controller, Round, Tell
from hpc.environment import task_environment
from hpc.failure_groups import Failure, find_failures
from hpc.fresh_report import FreshReport
from hpc.launch import Launch
from hpc.local_cluster import LocalCluster
from hpc.lock import LockHeldError
from hpc.monitor import Speed, describe_failures, describe_log, line, take_snapshot
from hpc.resubmit_command import resubmit_command
from hpc.run import Run
from hpc.screen import Screen
from hpc.site_file import site_defaults
from hpc.slurm import CALL_SECONDS, SlurmCluster
from jobs.fileops import StorageError
from jobs.left_out import describe_left_out, sum_left_out
from jobs.plain_text import plain, plain_lines, warn
from jobs.signals import INTERRUPTIONS, StopFlag
from jobs.spec import read_spec
from jobs.taste.training import NAME

__all__ = ["EXIT_CODES", "cluster_of", "finish", "launch_of", "make_controller", "one_round", "watch"]

EXIT_CODES = {"finished": 0, "running": 75, "quarantined": 3, "stuck": 4}
"""75 is EX_TEMPFAIL of sysexits.h: come again."""
SLURM_SECONDS = 30.0
LOCAL_SECONDS = 0.2
BUSY_SHARE = 0.1
"""The share of its time that a watch spends on scanning files: a large run on a slow file system is scanned less often.
Waiting for Slurm does not count: after an outage of slurmctld the next round is due as usual.
"""
STORAGE_SECONDS, STORAGE_PAUSE_SECONDS = 1800.0, 10.0
"""How long a watch that cannot write to the run directory goes on, and how often it tries: others may make room."""
STOP_SECONDS = 0.1
LOGS_SHOWN = 2
RECENT = 3
"""The latest submissions, whose failures are shown."""

log = logging.getLogger("tar2tokens")


def launch_of(run: Run) -> Launch:
    """How the run is launched. Raises UsageError if it never was."""
    launch = run.read_state().launch
    if launch is not None:
        return launch
    spec, tars = read_spec(run.output_dir), run.listed()
    if spec is None or not tars:
        raise UsageError(
            f"{run.output_dir}: no run here yet: begin it with {called('hpc.submit')}, or give another --output-dir"
        )
    raise UsageError(
        f"{run.output_dir}: {counted(len(tars), 'tar')} of {called('jobs.tokenize_tar')}, and no run yet. This makes them "
        f"a run, and repeats no work:\n  {resubmit_command(spec, None, site_defaults(), None, run.output_dir)}"
    )


def cluster_of(launch: Launch, stop: Callable[[], bool] = lambda: False, *, patience_s: float = CALL_SECONDS) -> Cluster:
    """Where the run's tasks are. Calls of Slurm's commands time out after `patience_s`."""
    if launch.cluster == "local":
        return LocalCluster(socket.gethostname(), stop)
    return SlurmCluster(task_environment(launch), patience_s, launch.clusters)


def make_controller(
    run: Run, cluster: Cluster, launch: Launch, *, anew: bool = False, tell: Tell = lambda *_: None
) -> Controller:
    """A controller on this host. `anew`: a user has just started to watch."""
    return Controller(run, cluster, launch, host=socket.gethostname(), anew=anew, tell=tell)


def watch(run: Run, launch: Launch, *, seconds: float | None = None) -> int:
    """Do rounds until the end; returns the exit code.

    An interruption ends the watch. Tasks on Slurm continue. Workers on this machine first finish what is in hand; a second
    interruption ends them at once.
    """
    interruption = StopFlag(answer="")  # this watch says more, and not in a handler
    cluster = cluster_of(launch, interruption)
    pause = seconds if seconds is not None else LOCAL_SECONDS if launch.cluster == "local" else SLURM_SECONDS
    # From before the first worker starts until the last one has ended; after it a signal ends the wait for hooks.
    with broadcasting(run) as tell, interruption.on_signals(INTERRUPTIONS):
        controller = make_controller(run, cluster, launch, anew=True, tell=tell)
        report = FreshReport(run, begun=time.time())
        try:
            seen = _rounds(controller, report, pause, interruption)
        finally:  # also after an exception, such as that of a terminal that has gone away
            if isinstance(cluster, LocalCluster):
                _stop_workers(cluster, controller, interruption)
        if seen is not None and isinstance(cluster, LocalCluster):
            controller.tell_ends(seen)
    if seen is None:
        go_on = (
            f"the tasks continue; {called('hpc.resume')} watches them again"
            if launch.cluster == "slurm"
            else "run the same command again"
        )
        warn(f"interrupted: {go_on}")
        return 128 + (interruption.signal or 0)
    code = finish(run, seen)
    report.wait()
    return code


def one_round(run: Run, *, patient: bool = True, note: Callable[[Round], None] = lambda _seen: None) -> int:
    """Look and act once; returns the exit code. `note` is called with the round.

    A refusal by Slurm is raised as SubmitRefusedError; if `patient`, only the second one in the same words ends the run.
    """
    launch = launch_of(run)
    began = time.monotonic()
    try:
        with broadcasting(run) as tell:
            seen = make_controller(run, cluster_of(launch), launch, tell=tell).round()
    except LockHeldError as held:
        warn(f"another controller is at work: {held}")
        return EXIT_CODES["running"]
    except SubmitRefusedError as refusal:
        if not patient:
            raise
        warn(f"{refusal}; the next round tries again, and a second refusal in the same words is the last")
        return EXIT_CODES["running"]
    note(seen)
    if seen.decision.outcome != "running":
        return finish(run, seen)
    now = take_snapshot(seen)
    print(line(now, Speed(now, began).words(now, began)))
    if seen.decision.diagnosis:
        warn(f"nothing more is submitted: {seen.decision.diagnosis}")
    return EXIT_CODES["running"]


def _rounds(controller: Controller, report: FreshReport, pause: float, interruption: StopFlag) -> Round | None:
    """Do rounds until the end; returns the last one, or None after an interruption."""
    screen = Screen(time.monotonic())
    speed: Speed | None = None
    written = time.monotonic()
    with screen.on():
        while not interruption():
            began, rest = time.monotonic(), pause
            try:
                seen = controller.round()
            except LockHeldError as held:
                log.info("another controller is at work: %s", held)
            except StorageError as trouble:
                if began - written > STORAGE_SECONDS:
                    raise
                log.warning("%s; the watch tries again by itself for %.0f minutes", trouble, STORAGE_SECONDS / 60)
                rest = max(pause, STORAGE_PAUSE_SECONDS)
            except SubmitRefusedError as refusal:
                log.warning("%s; the next round tries again, and a second refusal in the same words is the last", refusal)
            else:
                written = time.monotonic()
                now = take_snapshot(seen)
                speed = speed or Speed(now, began)
                screen.show(seen, now, speed, time.monotonic(), list(filter(None, [seen.decision.diagnosis])))
                ended = seen.decision.outcome != "running"
                report.refresh(len(seen.states), ended=ended)
                if ended:
                    return seen
                rest = max(pause, seen.scan_seconds / BUSY_SHARE)
            _sleep(rest, interruption, screen.attend)
    return None


def _stop_workers(cluster: LocalCluster, controller: Controller, interruption: StopFlag) -> None:
    """Ask this machine's workers to end until all have; after a second interruption, kill them."""
    said = False
    ours = controller.open_jobs().keys()  # and no others: another watch may start some when these have ended
    while jobs := {number: job for number, job in controller.open_jobs().items() if number in ours}:
        if interruption.count > 1:
            cluster.kill(jobs)
        else:
            cluster.cancel(jobs)
        if not said and interruption.signal is not None:
            name = signal.Signals(interruption.signal).name
            warn(f"{name}: the workers finish what is in hand; a second one ends them at once")
        said = True
        time.sleep(STOP_SECONDS)


def finish(run: Run, seen: Round) -> int:
    """Print the state of the run; returns the exit code."""
    decision = seen.decision
    now = take_snapshot(seen)
    print(
        now.training
        or f"{now.done:,} of {counted(now.tars, 'tar')} committed: {counted(now.clips, 'clip')}, "
        f"{counted(now.errors, 'error')}, {now.audio_seconds / 3600:,.2f} audio-h"
        + (f", {counted(now.damaged, 'damaged clip')} kept" if now.damaged else "")
    )
    _print_left_out(seen)
    reasons: dict[str, list[str]] = {}
    for name, reason in decision.quarantine.items():
        reasons.setdefault(reason, []).append(name)
    for words in describe_failures([Failure(reason, tars) for reason, tars in reasons.items()]):
        warn(f"in quarantine: {words}")
    for node, reason in decision.exclude.items():
        warn(f"avoided: node {plain(node)}: {reason}")
    if decision.outcome == "stuck":
        warn(f"error: stuck: {decision.diagnosis or 'nothing more can be submitted'}")
        failures = find_failures(run.submissions()[-RECENT:])
        for words in describe_failures(failures):
            if words.removeprefix(f"{NAME}: ") not in plain_lines(decision.diagnosis):
                warn(f"error: {words}")
        for failure in failures[:LOGS_SHOWN]:
            warn(describe_log(failure))
        if not run.read_state().cancelled and not decision.passes:
            warn(f"when that is fixed: {called('hpc.submit')} again, or {called('hpc.resume')} --retry-quarantined")
    elif decision.outcome == "quarantined":
        warn(f"{called('tools.failures')} says more; {called('hpc.resume')} --retry-quarantined tries them again")
    return EXIT_CODES[decision.outcome]


def _print_left_out(seen: Round) -> None:
    done = [tar.manifest for tar in seen.states if tar.state == "committed" and tar.manifest is not None]
    left_out = sum_left_out(manifest.left_out for manifest in done)
    if left_out:
        print(f"note: {plain(describe_left_out(left_out))}")


def _sleep(seconds: float, interruption: StopFlag, meanwhile: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while not interruption() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, STOP_SECONDS))
        meanwhile()
