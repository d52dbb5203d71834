"""What failed in a run, from its files: tars and clips, and whether the run is stuck."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from audio_tokenizers.errors import UsageError
from hpc.failure_groups import Failure, find_damaged, find_damaged_clips, find_error_clips, find_failures
from hpc.policy import Decision
from hpc.progress import TarState, scan
from hpc.run import Run
from hpc.standing import Standing
from jobs.records import ErrorRecord, TokenRecord

__all__ = ["Found", "find"]

EXAMPLES = 2


@dataclass(frozen=True)
class Found:
    """Everything that tools.failures reports."""

    states: list[TarState]
    groups: list[Failure]
    decision: Decision
    examples: dict[str, list[ErrorRecord]]
    damaged: list[TokenRecord]
    """Some of the clips that were kept although part of their audio is missing."""

    @functools.cached_property
    def done(self) -> set[str]:
        """Names of committed tars."""
        return {state.name for state in self.states if state.state == "committed"}

    def failed(self) -> list[TarState]:
        """Tars that failed and are not committed, in the list's order."""
        names = ({name for group in self.groups for name in group.tars} | self.decision.quarantine.keys()) - self.done
        return [state for state in self.states if state.name in names]

    def with_errors(self) -> list[TarState]:
        """Committed tars that have clips with errors."""
        return [state for state in self.states if state.name in self.done and state.manifest and state.manifest.errors]

    def stuck(self) -> bool:
        """Whether no round will submit the rest, for a known reason."""
        return self.decision.outcome == "stuck" and bool(self.decision.diagnosis)

    def idle(self) -> bool:
        """Whether the remaining tars wait for a reason outside of them: no task reached one, or the run is stuck."""
        vain = self.stuck() or any(not group.tars for group in self.groups)
        return vain and len(self.done) < len(self.states)


def find(run: Run) -> Found:
    """Read a run's files. Failures from before the latest --retry-quarantined or hpc.submit do not count."""
    listed = run.listed()
    if not listed:
        raise UsageError(f"{run.output_dir}: no run here yet: give another --output-dir")
    states = list(scan(run, listed))
    amnesty = run.read_state().amnesty
    groups = find_failures([submission for submission in run.submissions() if submission.number > amnesty])
    if not run.submissions():  # no task has reported anything
        groups = find_damaged(states)
    examples = find_error_clips(run, states, EXAMPLES)
    return Found(states, groups, Standing(run).judge(states), examples, find_damaged_clips(run, states, EXAMPLES))
