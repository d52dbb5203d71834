"""What tools.check_progress reports of a training: how far it is, its task, and why it goes no further."""

from __future__ import annotations

import msgspec

from hpc.failure_groups import find_failures
from hpc.monitor import describe_failures, describe_log, describe_tasks
from hpc.rounds import cluster_of
from hpc.run import Run
from hpc.stalls import describe_stalls
from hpc.standing import Running, Standing, Worker
from hpc.training import describe_last_job, describe_training, is_done, survey
from hpc.trust import launch_to_look_with
from jobs.plain_text import plain, plain_lines
from jobs.taste.status import Status, read_status
from jobs.taste.training import NAME
from tools.checking.report import SLURM_SECONDS

__all__ = ["TrainingReport", "look_at_training", "render_training", "render_training_failures"]

LOGS_SHOWN = 2


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    output_dir: str
    words: str
    """How far it is, as text."""
    finished: bool
    """Its last epoch is over."""
    status: Status | None
    """The training's own figures; None before its first step."""
    working: Worker | None = None
    """Who trains now, by the claim on the folder."""
    running: Running | None = None
    """Its tasks, if hpc.submit has launched it and it is not finished."""
    last_job: str = ""
    """What ended the last job, unless it came to its end by itself."""
    stopped: str = ""
    """Why nothing more is submitted: it is stuck or cancelled. Empty otherwise."""


def look_at_training(run: Run) -> TrainingReport | None:
    """The report, or None where the folder holds no training."""
    try:
        state, status = run.read_state(), read_status(run.output_dir)
    except NotADirectoryError:
        return None
    if state.training is None:
        if status is None or run.spec_file.exists():
            return None
        over = status.epoch >= status.epochs  # begun with jobs.train_taste
        return TrainingReport(output_dir=str(run.output_dir), words=status.describe(), finished=over, status=status)
    words, finished = describe_training(run, state), is_done(run, state.training)
    report = TrainingReport(output_dir=str(run.output_dir), words=words, finished=finished, status=status)
    if finished or state.launch is None:
        return report
    standing = Standing(run, cluster_of(launch_to_look_with(run, state.launch), patience_s=SLURM_SECONDS))
    decision = standing.judge(survey(run, state)[1])
    return msgspec.structs.replace(
        report,
        working=standing.workers().get(NAME),
        running=standing.running(),
        last_job=describe_last_job(run, state),
        stopped=standing.why_stopped(decision),
    )


def render_training(report: TrainingReport) -> str:
    """The report as text."""
    lines = [f"Training:              {report.output_dir}", f"Progress:              {report.words}"]
    if report.status is not None and not report.finished:
        saved = f"step {report.status.saved:,}" if report.status.saved else "none"
        lines.append(f"Checkpoint:            {saved}")
    if report.working is not None:
        lines.append(f"Worker:                {plain(str(report.working))}")
    if (found := report.running) is not None:
        words = describe_tasks(found.running, found.pending, found.reasons) if found.known else ["not known now"]
        lines.append(f"Running:               {'; '.join(words)}")
        lines += [f"No progress:           {stall}" for stall in describe_stalls(found.stalls)]
    if report.last_job:
        lines.append(f"Last job:              {plain_lines(report.last_job)}")
    if report.stopped:
        lines.append(f"Stopped:               nothing more is submitted: {plain_lines(report.stopped)}")
    return "\n".join(lines)


def render_training_failures(run: Run) -> list[str]:
    """The tries of a training that failed since hpc.submit or --retry-quarantined, with the ends of their logs."""
    amnesty = run.read_state().amnesty
    failures = find_failures([submission for submission in run.submissions() if submission.number > amnesty])
    words = [line.removeprefix(f"{NAME}: ") for line in describe_failures(failures)]
    return [*words, *filter(None, map(describe_log, failures[:LOGS_SHOWN]))]
