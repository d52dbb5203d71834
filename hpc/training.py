"""A run that trains: what a round sees and decides, in the terms of tars. To a round it is one tar, called `training`.

A try at it gains the steps that its checkpoints have added, and the policy of tars holds: tries with progress cost nothing,
three in a row without any end the run, and so does an error that another try would only repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hpc.launch import Launch
from hpc.policy import Decision
from hpc.progress import State, TarState, scan
from hpc.run import ListedTar, Run, RunState
from hpc.tries import Evidence
from jobs.devices import visible_gpus
from jobs.progress import UNENDED
from jobs.taste.status import CHECKPOINT, Status, read_status
from jobs.taste.training import NAME, Training

__all__ = [
    "describe_last_job",
    "describe_training",
    "final_words",
    "is_done",
    "of_training",
    "ranks_of",
    "status_of",
    "survey",
]


HOW = {"machine": "failed", "damaged": "failed for good", "killed": "was killed", "left_alone": "left it alone"}
"""Outcome of a try -> the verb for people, where it is another."""


def survey(run: Run, state: RunState) -> tuple[list[ListedTar], list[TarState]]:
    """The run's tars and their states, or the training as one of them."""
    if state.training is None:
        listed = run.listed()
        return listed, list(scan(run, listed))
    return [ListedTar(str(run.output_dir), NAME)], [_training_state(run, state.training)]


def _training_state(run: Run, training: Training) -> TarState:
    begun = (run.output_dir / CHECKPOINT).exists()
    found: State = "committed" if is_done(run, training) else "partial" if begun else "not_started"
    return TarState(str(run.output_dir), NAME, found, 0, None, None)


def is_done(run: Run, training: Training) -> bool:
    """Whether its last epoch is over."""
    status = read_status(run.output_dir)
    over = status is not None and status.epoch >= training.chosen().epochs
    return over and (run.output_dir / CHECKPOINT).exists()


def final_words(evidence: Sequence[Evidence]) -> str | None:
    """The error of the last try that another one would only repeat; None if there was none."""
    tries = [each.attempt for one in evidence for each in one.tries]
    return next((attempt.problem for attempt in reversed(tries) if attempt.outcome == "damaged"), None)


def of_training(decision: Decision) -> Decision:
    """The decision about a list of tars, about a training: where its only tar would go into quarantine, it is stuck."""
    reason = decision.quarantine.get(NAME)
    if reason is None:
        return decision
    return msgspec.structs.replace(decision, outcome="stuck", quarantine={}, diagnosis=reason)


def describe_training(run: Run, state: RunState) -> str:
    """`epoch 3 of 10, step 120 of 400 (920 in all), loss 5.3121`; empty of a run that makes tokens."""
    if state.training is None:
        return ""
    status = status_of(run, state)
    return f"no step of {state.training.chosen().epochs} epochs yet" if status is None else status.describe()


def status_of(run: Run, state: RunState) -> Status | None:
    """How far a training is; None of a run that makes tokens, and before the first step."""
    if state.training is None or (status := read_status(run.output_dir)) is None:
        return None
    return msgspec.structs.replace(status, epochs=state.training.chosen().epochs)


def describe_last_job(run: Run, state: RunState) -> str:
    """What ended the last job that has ended, unless it came to its end by itself: `job 0002 died: SIGSEGV`."""
    for submission in reversed(run.submissions()):
        if submission.number <= state.amnesty or state.training is None:
            break
        if (digest := submission.read_digest()) is None:
            continue
        tries = [attempt for end in digest.ends for attempt in end.progress.tries]
        job = f"job {submission.number:04}"
        if not tries:
            return f"{job} ended before it began to train" if digest.silent else ""
        if tries[-1].outcome in UNENDED:
            return f"{job} was ended from outside ({', '.join(digest.states) or 'by what is not known'})"
        problem = tries[-1].problem
        return f"{job} {HOW.get(tries[-1].outcome, tries[-1].outcome)}: {problem}" if problem else ""
    return ""


def ranks_of(launch: Launch) -> int:
    """Processes that train together: one per GPU of the task, or of this machine."""
    if launch.cluster == "slurm":
        return launch.ranks
    places = len(visible_gpus()) if launch.device != "cpu" else launch.workers or 1
    return max(1, min(places, launch.workers or places))
