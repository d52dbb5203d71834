"""The state of a run for tools that only look: from its files and at most one question to the cluster. Changes nothing."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from hpc.cluster import Cluster
from hpc.evidence import View, ask_cluster, ask_reports, claims_that_stand, judge, why_held
from hpc.policy import Decision
from hpc.progress import TarState
from hpc.run import Run
from hpc.stalls import Still, read_stalls
from jobs.progress import DeviceSeconds

__all__ = ["Running", "Standing", "Worker"]


class Worker(msgspec.Struct, frozen=True):
    """The worker on a tar."""

    task: str
    """SUBMISSION/SLOT; empty for a worker that was started by hand."""
    node: str

    def __str__(self) -> str:
        """`task 0003/12 on n2`."""
        return f"task {self.task} on {self.node}" if self.task else f"a worker started by hand on {self.node}"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The run's tasks that have not ended."""

    known: bool
    """The cluster answered, or there was nothing to ask."""
    running: dict[str, int]
    """Node -> tasks."""
    pending: int
    reasons: dict[str, int]
    """Why tasks have not begun, in Slurm's words."""
    unknown: int = 0
    """Submissions whose tasks could not be looked up."""
    device_seconds: DeviceSeconds = DeviceSeconds()
    """What the tasks' devices have spent their time on, according to their reports."""
    stalls: tuple[Still, ...] = ()
    """Tasks without progress, longest stall first."""


class Standing:
    """A run at one moment, gathered with at most one question to its cluster, or from its files alone."""

    def __init__(self, run: Run, cluster: Cluster | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """Look. Without a `cluster` the tasks' reports say which of them have ended."""
        self._run = run
        self._clock = clock
        self._state = run.read_state()
        self._views = [View(each, each.read_job(), digest=each.read_digest()) for each in run.submissions()]
        self._asked: list[View] = []
        if cluster is None:
            ask_reports(self._views)
        elif any(view.digest is None for view in self._views):
            on_slurm = self._state.launch is not None and self._state.launch.cluster == "slurm"
            self._asked = ask_cluster(self._views, cluster, clock(), refused=on_slurm)
        # A claim's silence is not measured: reading the file system's clock takes a new file, and looking writes nothing.
        self._claims = claims_that_stand(run, self._views, lambda _name: 0.0)

    def judge(self, states: Sequence[TarState]) -> Decision:
        """What the next round would decide on this evidence, apart from what `why_stopped` reports."""
        return judge(self._run, self._state, states, self._views, self._claims, self._age_s)

    def why_stopped(self, decision: Decision) -> str:
        """Why the next round would submit nothing although work is left; empty if it would."""
        return why_held(self._run, self._state, decision) or decision.diagnosis

    def workers(self) -> dict[str, Worker]:
        """Tar -> its worker, according to the claims."""
        return {name: Worker(claim.task, claim.host) for name, claim in self._claims.items()}

    def running(self) -> Running:
        """The run's tasks that have not ended."""
        may_live = [view for view in self._asked if view.seen is not None or (view.job and view.job.state != "refused")]
        tasks = [task for view in may_live if view.seen is not None for task in view.seen.tasks.values()]
        unknown = sum(not view.known and not view.missing for view in may_live)
        return Running(
            known=not may_live or unknown < len(may_live),
            running=dict(sorted(Counter(task.node for task in tasks if task.state != "PENDING").items())),
            pending=sum(task.state == "PENDING" for task in tasks),
            reasons=dict(Counter(task.reason for task in tasks if task.state == "PENDING" and task.reason)),
            unknown=unknown,
            device_seconds=sum((_device_seconds(view) for view in may_live), DeviceSeconds()),
            stalls=read_stalls((view.submission, view.running()) for view in may_live),
        )

    def _age_s(self, view: View) -> float:
        return max(0.0, self._clock() - view.job.intended_at) if view.job is not None else math.inf


def _device_seconds(view: View) -> DeviceSeconds:
    """The sum over a submission's running tasks."""
    reports = [view.reports[slot] for slot in view.running() if slot in view.reports]
    return sum((report.device_seconds for report in reports if not report.finished), DeviceSeconds())
