"""Turns the remaining tars into arrays and submits them, so that a death at any moment loses none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from hpc.cluster import Cluster, SubmitLimitError, SubmitUncertainError
from hpc.launch import Launch
from hpc.plan import Plan, Slot, balance, chunk, make_plan, probes, slots_for
from hpc.policy import Decision
from hpc.progress import TarState
from hpc.remote_list import read_sizes
from hpc.run import ListedTar, Run, as_task
from hpc.submissions import Job, Submission
from hpc.training import ranks_of
from jobs.spec import TokenizeSpec, read_spec
from jobs.tar_task import TarTask
from jobs.taste.training import Training

__all__ = ["InQueue", "Submitted", "Submitter", "bytes_per_second"]

ASK_AGAIN_SECONDS = 300.0
"""Seconds until the next try after Slurm took no more jobs: jobs of others may fill the queue."""

log = logging.getLogger("tar2tokens")


@dataclass(frozen=True)
class InQueue:
    """What is in the queue, or may be alive, before this round submits."""

    alive: Mapping[int, Sequence[int]]
    """Submission -> slots of tasks that may be alive."""
    elements: int
    """Array tasks in the queue."""
    may_run: int
    """How many of them may run at once."""


@dataclass(frozen=True)
class Submitted:
    """What happened to the tars that need a task."""

    submissions: tuple[int, ...] = ()
    waiting: int = 0
    """Tars that are in no job yet."""
    why: str = ""
    """Why they wait, if not for room in the queue."""


@dataclass(frozen=True)
class _Order:
    """What does not change between tries at submitting one array."""

    run_id: str
    exclude: tuple[str, ...]
    """Nodes to avoid."""
    parallel: int | None
    """Array tasks that may run at once; None for any number."""
    in_queue: int
    """The run's array tasks that are in the queue before it."""
    first_of_round: int
    """The first submission of this round; 0 before there is one."""


class Submitter:
    """Submits for one run."""

    def __init__(self, run: Run, cluster: Cluster, launch: Launch, *, host: str, clock: Callable[[], float]) -> None:
        self._run = run
        self._cluster = cluster
        self._launch = launch
        self._host = host
        self._clock = clock

    def plan_slots(self, tasks: Sequence[TarTask], rate: float | None) -> tuple[tuple[TarTask, ...], ...]:
        """Spread tars over worker processes that each handle `rate` bytes per second, if that is known."""
        slots = self._cluster.slots(self._launch, len(tasks))
        if slots is None:
            limit_s = 60.0 * self._launch.time_limit_min
            slots = slots_for(tasks, self._launch.tars_per_gpu, self._launch.procs_per_gpu, limit_s, rate)
        return balance(tasks, slots)

    def submit(
        self, run_id: str, decision: Decision, listed: Sequence[ListedTar], states: Sequence[TarState], queue: InQueue
    ) -> Submitted:
        """Submit what was decided, as far as the site allows now. Raises UsageError if it refuses the job."""
        wanted = set(decision.submit)
        room, parallel = self._room(queue)
        why = self._why_not_now(room, queue, states)
        if not wanted or why is not None:
            return Submitted(waiting=len(wanted), why=why or "")
        try:
            max_array = self._cluster.max_array(self._launch)
        except SubmitUncertainError as error:
            log.warning("%s", error)
            return Submitted(waiting=len(wanted), why=str(error))
        sizes = read_sizes(self._run.sizes_file)
        work = self._work()
        retry = {tar.name for tar in states if tar.state == "committed"}
        rate = bytes_per_second(states)
        last = set(decision.short_of_memory)
        slots: Sequence[Slot] = self.plan_slots(
            [
                as_task_of(as_task(tar, sizes), decision, retry)
                for tar in sorted(listed, key=lambda tar: tar.name in last)
                if tar.name in wanted
            ],
            rate,
        )
        if self._launch.cluster == "slurm":
            slots = probes(slots, self._launch.tars_per_gpu, rate, max_array * self._processes)
        alive = {number: list(slots) for number, slots in queue.alive.items()}
        before = len(alive)
        elements = queue.elements
        placed: set[str] = set()
        first_of_round = 0
        for part in chunk(slots, self._processes, max_array, room):
            first = 0
            while first < len(part):
                try:
                    order = _Order(run_id, tuple(decision.exclude), parallel, elements, first_of_round)
                    plan, job = self._submit_array(order, part[first:], work, alive)
                except SubmitLimitError as error:
                    log.info("Slurm takes no more jobs for now, the rest waits: %s", error)
                    return Submitted(tuple(list(alive)[before:]), len(wanted) - len(placed))
                except SubmitUncertainError as error:
                    log.warning("%s", error)
                    return Submitted(tuple(list(alive)[before:]), len(wanted) - len(placed), str(error))
                count = min(job.elements * self._processes, len(plan.slots))
                alive[plan.submission] = list(range(count))
                first_of_round = first_of_round or plan.submission
                elements += job.elements
                placed.update(task.name for slot in plan.slots[:count] for task in slot)
                first += count
                if parallel is not None and (parallel := parallel - job.parallel) == 0:
                    left = len(wanted) - len(placed)
                    return Submitted(tuple(list(alive)[before:]), left, f"--max-running {self._launch.max_running}")
        return Submitted(tuple(list(alive)[before:]), len(wanted) - len(placed))

    def _work(self) -> TokenizeSpec | Training:
        """What the tasks do."""
        work = self._run.read_state().training or read_spec(self._run.output_dir)
        if work is None:
            raise UsageError(f"{self._run.spec_file}: no such file: restore it, or begin again with {called('hpc.submit')}")
        return work

    @property
    def _processes(self) -> int:
        """Slots of one array task."""
        return self._launch.processes if self._launch.cluster == "slurm" else 1

    def _room(self, queue: InQueue) -> tuple[int | None, int | None]:
        """How many more array tasks may be submitted now, and how many of them may run at once; None for any number."""
        if self._launch.cluster == "local":  # its workers fill the machine, and help each other to the end
            return (0 if any(queue.alive.values()) else None), None
        if self._was_full(queue):
            return 0, None
        if self._launch.max_running is None:
            return None, None
        left = self._launch.max_running - queue.may_run
        return (None, left) if left > 0 else (0, None)

    def _why_not_now(self, room: int | None, queue: InQueue, states: Sequence[TarState]) -> str | None:
        """Why the tars wait, empty where Slurm took no more jobs; None if they need not wait."""
        if room == 0 and self._launch.cluster == "local":
            return "for the workers of this machine to end"
        if room == 0:
            return "" if self._was_full(queue) else f"--max-running {self._launch.max_running}"
        return "--tars-per-gpu auto: the first tars show how fast it goes" if self._is_probing(queue, states) else None

    def _is_probing(self, queue: InQueue, states: Sequence[TarState]) -> bool:
        """Whether a first array is still running to measure the speed before the rest is planned.

        It has one time limit to do so: if no tar is done by then, the rest waits no longer.
        """
        if self._launch.tars_per_gpu != "auto" or not queue.alive or bytes_per_second(states) is not None:
            return False
        jobs = [submission.read_job() for submission in self._run.submissions() if submission.number in queue.alive]
        first = min(job.intended_at for job in jobs if job is not None)
        return self._clock() - first < 60.0 * self._launch.time_limit_min

    def _was_full(self, queue: InQueue) -> bool:
        """Whether Slurm recently took no more jobs, and none of ours has left the queue since."""
        submissions = self._run.submissions()
        job = submissions[-1].read_job() if submissions else None
        if job is None or not job.full:
            return False
        return queue.elements >= job.in_queue and self._clock() - job.intended_at < ASK_AGAIN_SECONDS

    def _submit_array(
        self,
        order: _Order,
        slots: Sequence[tuple[TarTask, ...]],
        work: TokenizeSpec | Training,
        alive: Mapping[int, Sequence[int]],
    ) -> tuple[Plan, Job]:
        """Submit one array for as many of the first slots as Slurm takes.

        The plan and the intent are on disk before sbatch is called, so that after a death in between the next round looks
        the job up by name. Raises SubmitLimitError if Slurm takes not even one task, SubmitUncertainError, or UsageError.
        """
        submission = self._run.new_submission()
        plan = self.make_plan(submission.number, slots, work, alive)
        submission.write_plan(plan)
        elements = plan.elements
        while True:
            job = Job(
                name=f"tar2tokens-{order.run_id}-{submission.number:04}",
                elements=elements,
                parallel=min(elements, order.parallel or elements),
                host=self._host,
                cluster=self._launch.clusters if self._launch.cluster == "slurm" else "",
                intended_at=self._clock(),
                round=order.first_of_round,
                in_queue=order.in_queue,
            )
            submission.write_job(job)
            try:
                number = self._cluster.submit(submission, self._launch, job, order.exclude)
            except SubmitLimitError as error:
                _keep_refusal(submission, job, error, full=elements == 1)
                if elements == 1:
                    raise
                elements //= 2
            except SubmitUncertainError as error:
                submission.write_job(msgspec.structs.replace(job, words=str(error), answered_at=self._clock()))
                raise
            except UsageError as error:
                _keep_refusal(submission, job, error)
                raise
            else:
                job = msgspec.structs.replace(
                    job, state="submitted", job_id=number.job_id, cluster=number.cluster, answered_at=self._clock()
                )
                submission.write_job(job)
                return plan, job

    def make_plan(
        self,
        number: int,
        slots: Sequence[tuple[TarTask, ...]],
        work: TokenizeSpec | Training,
        alive: Mapping[int, Sequence[int]] | None = None,
    ) -> Plan:
        """The plan of one array."""
        on_slurm = self._launch.cluster == "slurm"
        return make_plan(
            slots,
            work,
            submission=number,
            processes=self._processes,
            ranks=ranks_of(self._launch) if self._launch.training else 1,
            time_limit_s=60.0 * self._launch.time_limit_min if on_slurm else None,
            device=self._launch.device,
            options=self._launch.options,
            allow_missing_end=self._launch.allow_missing_end,
            allow_joined=self._launch.allow_joined,
            allow_pipe=self._launch.allow_pipe,
            decode_threads=self._launch.decode_threads,
            buffer_memory=self._launch.buffer_memory,
            memory_guard=self._launch.memory_guard,
            clip_timeout=self._launch.clip_timeout,
            alive=alive,
        )


def _keep_refusal(submission: Submission, job: Job, error: Exception, *, full: bool = False) -> None:
    submission.write_job(msgspec.structs.replace(job, state="refused", words=str(error), full=full))


def as_task_of(tar: TarTask, decision: Decision, retry: set[str]) -> TarTask:
    """A tar with what has been decided about it, for its worker."""
    return msgspec.structs.replace(
        tar,
        crash_clips=decision.crash_clips.get(tar.name, ()),
        timed_out=decision.timed_out.get(tar.name, ()),
        one_at_a_time=tar.name in decision.one_at_a_time,
        retry_errors=tar.name in retry,
    )


def bytes_per_second(states: Sequence[TarState]) -> float | None:
    """Tar bytes per second of one worker, over all committed tars; None before there are any."""
    done = [tar.manifest for tar in states if tar.state == "committed" and tar.manifest is not None]
    seconds = sum(manifest.wall_seconds for manifest in done)
    return sum(manifest.input_bytes for manifest in done) / seconds if seconds > 0 else None
