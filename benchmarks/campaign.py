"""A campaign of 100,000 tars on 512 GPUs, on virtual time: how much longer it takes than it must.

Real: hpc.policy.decide, and hpc.plan, put together as hpc.dispatch does it. Simulated: Slurm (first come, first served), a
task's life as hpc.task lives it, and nodes that are lost. python -m benchmarks.campaign
"""

from __future__ import annotations

import heapq
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from hpc.plan import balance, chunk, probes, slots_for, stop_margin_s
from hpc.policy import TarFact, decide
from hpc.task import IDLE_LIVES
from hpc.tries import Evidence, NodeTry
from jobs.claims import STALE_SECONDS
from jobs.commands import command_parser
from jobs.progress import Ending, Try
from jobs.tar_task import TarTask

GOAL = 1.15
TARS, NODES, GPUS_PER_NODE, MAX_ARRAY = 100_000, 128, 4, 1001
GPUS = NODES * GPUS_PER_NODE
SIGMA = 1.0
"""Of the log-normal tar sizes: the largest of so many is some 80 times the median, 50 times the mean."""
RATE = 2e6
"""Tar bytes per second of one GPU."""
CLIP_SECONDS = 5.0
"""That one clip keeps a GPU busy; it is what may be lost, and how late a worker stops."""
POISON = 0.02
LIMIT_SECONDS = 7200.0
START_SECONDS, LOAD_SECONDS = 10.0, 60.0
LOST_NODES = 0.05
"""Share of the nodes that is lost in each LIMIT_SECONDS, without a word."""
NODE_BACK_SECONDS = 1800.0
ROUND_SECONDS = 30.0
BUSY_ROUND_SECONDS = 900.0
"""While the queue is long enough for that; it makes the simulation faster, and the campaign, if anything, slower."""


@dataclass(eq=False)
class Tar:
    """A tar and its partial."""

    task: TarTask
    clips: int
    clip_seconds: float
    poison: int | None
    lines: int = 0
    holder: Task | None = None
    left_by: Task | None = None
    """The task whose worker died with its claim. Nothing else knows while that task goes on."""
    left_at: float = 0.0
    planned: int = 0
    """Living tasks that have it in their plans."""
    done: bool = False


@dataclass(eq=False)
class Submission:
    """One array."""

    number: int
    tars: list[Tar]
    """Last slot first: helpers go through them in this order."""
    told: dict[str, tuple[int, ...]]
    living: int = 0
    helped: int = 0
    """How many of the tars need no further look."""
    tries: list[NodeTry] = field(default_factory=list)
    closed: Evidence | None = None


@dataclass(eq=False)
class Task:
    """An array task of one worker."""

    submission: Submission
    own: deque[Tar]
    planned: list[Tar]
    excluded: frozenset[str]
    node: str = ""
    ends: float = 0.0
    loaded: bool = False
    attempt: Try | None = None
    tar: Tar | None = None
    began: float = 0.0
    idle_lives: int = 0
    gained_in_life: bool = False
    tries: list[Try] = field(default_factory=list)
    alive: bool = True


class Campaign:
    """The cluster and the run."""

    def __init__(self, median_seconds: float, tars_per_gpu: int | str) -> None:
        source = random.Random(1)
        self.tars_per_gpu = tars_per_gpu
        self.tars: dict[str, Tar] = {}
        for number in range(TARS):
            seconds = median_seconds * source.lognormvariate(0, SIGMA)
            clips = max(1, round(seconds / CLIP_SECONDS))
            poison = source.randrange(clips) if source.random() < POISON else None
            task = TarTask(f"/data/{number}.tar", str(number), int(RATE * seconds))
            self.tars[task.name] = Tar(task, clips, seconds / clips, poison)
        self.work = sum(tar.clips * tar.clip_seconds for tar in self.tars.values())
        self.longest = max(tar.clips * tar.clip_seconds for tar in self.tars.values())
        self.now = 0.0
        self.events: list[tuple[float, int, str, object]] = []
        self.order = 0
        self.pending: deque[Task] = deque()
        self.free = {f"n{number}": GPUS_PER_NODE for number in range(NODES)}
        self.running: dict[str, set[Task]] = {node: set() for node in self.free}
        self.down: set[str] = set()
        self.source = source
        self.submissions: list[Submission] = []
        self.done_bytes = 0
        self.excluded: set[str] = set()
        self.quarantined: dict[str, str] = {}
        self.tasks = self.lost = self.rounds = 0
        self.decide_seconds = 0.0
        self.busy_seconds = 0.0

    def at(self, seconds: float, what: str, whom: object) -> None:
        """Have something happen so much later."""
        self.order += 1
        heapq.heappush(self.events, (self.now + seconds, self.order, what, whom))

    def run(self) -> str:
        """Until a round says how it ended."""
        self.at(0.0, "round", None)
        self.at(self.until_loss(), "loss", None)
        while True:
            self.now, _, what, whom = heapq.heappop(self.events)
            if what == "round":
                if (outcome := self.round()) != "running":
                    return outcome
            elif what == "loss":
                self.lose(self.source.choice(sorted(self.free)))
                self.at(self.until_loss(), "loss", None)
            elif what == "back":
                self.down.discard(str(whom))
                self.free[str(whom)] = GPUS_PER_NODE
                self.schedule()
            elif isinstance(whom, Task) and whom.alive:
                if what == "take":
                    self.take(whom)
                else:
                    self.finish_tar(whom)

    # The controller

    def round(self) -> str:
        """What hpc.controller and hpc.dispatch do."""
        self.rounds += 1
        facts = [TarFact(name, done=tar.done, taken=self.is_taken(tar)) for name, tar in self.tars.items()]
        started = time.perf_counter()
        decision = decide(facts, [self.evidence(one) for one in self.submissions])
        self.decide_seconds += time.perf_counter() - started
        self.excluded |= set(decision.exclude)
        self.quarantined = decision.quarantine
        rate = RATE if self.done_bytes else None
        probing = self.tars_per_gpu == "auto" and rate is None and any(one.living for one in self.submissions)
        if decision.submit and not (probing and self.now < LIMIT_SECONDS):
            tasks = [self.tars[name].task for name in decision.submit]
            slots = balance(tasks, slots_for(tasks, self.tars_per_gpu, 1, LIMIT_SECONDS, rate))
            for part in chunk(probes(slots, self.tars_per_gpu, rate, MAX_ARRAY), 1, MAX_ARRAY):
                self.submit(part, decision.crash_clips, frozenset(decision.exclude))
            self.schedule()
        self.at(BUSY_ROUND_SECONDS if len(self.pending) > 2 * GPUS else ROUND_SECONDS, "round", None)
        if decision.diagnosis:
            print(f"{self.now / 3600:.2f} h: {decision.outcome}: {decision.diagnosis}")
        return decision.outcome

    def is_taken(self, tar: Tar) -> bool:
        """Whether a living task has it in its plan or holds its claim; a dead worker's claim is void when it is stale."""
        left = tar.left_by is not None and tar.left_by.alive and self.now - tar.left_at <= STALE_SECONDS
        return left or tar.planned > 0 or tar.holder is not None

    def evidence(self, one: Submission) -> Evidence:
        """What is known of its tasks that have ended."""
        if one.closed is not None:
            return one.closed
        found = Evidence(one.number, ended=not one.living, tries=tuple(one.tries))
        if not one.living:
            one.closed = found
        return found

    def submit(
        self, slots: tuple[tuple[TarTask, ...], ...], told: dict[str, tuple[int, ...]], excluded: frozenset[str]
    ) -> None:
        """One array."""
        parts = [[self.tars[task.name] for task in slot] for slot in slots]
        one = Submission(len(self.submissions) + 1, [tar for part in reversed(parts) for tar in part], told, len(parts))
        self.submissions.append(one)
        for part in parts:
            for tar in part:
                tar.planned += 1
            self.pending.append(Task(one, deque(part), part, excluded))
        self.tasks += len(parts)

    # Slurm

    def schedule(self) -> None:
        """Start what waits, first come, first served."""
        for node in self.free:
            while self.free[node] and self.pending and node not in self.pending[0].excluded:
                task = self.pending.popleft()
                self.free[node] -= 1
                task.node, task.ends = node, self.now + LIMIT_SECONDS
                self.running[node].add(task)
                self.at(START_SECONDS, "take", task)

    def end(self, task: Task) -> None:
        """The task is gone, and Slurm knows."""
        task.alive = False
        for tar in task.planned:
            tar.planned -= 1
        one = task.submission
        one.living -= 1
        self.running[task.node].discard(task)
        if task.node not in self.down:
            self.free[task.node] += 1
            self.schedule()

    def until_loss(self) -> float:
        """Seconds until some node is lost."""
        return self.source.expovariate(LOST_NODES * NODES / LIMIT_SECONDS)

    def lose(self, node: str) -> None:
        """A node dies with all that runs on it."""
        if node in self.down:
            return
        self.down.add(node)
        self.lost += 1
        self.free[node] = 0
        for task in list(self.running[node]):
            if task.tar is not None:
                task.tar.left_by, task.tar.left_at = task, self.now
            self.stop_tar(task, "working")
            self.end(task)
        self.at(NODE_BACK_SECONDS, "back", node)

    # A task

    def take(self, task: Task) -> None:
        """Begin with the next tar, if time and tars are left."""
        deadline = task.ends - stop_margin_s(LIMIT_SECONDS)
        tar = self.next_tar(task) if self.now < deadline else None
        if tar is None:
            self.end(task)
            return
        tar.holder, task.tar = task, tar
        task.attempt = Try(tar.task.name, crash_clips=task.submission.told.get(tar.task.name, ()))
        task.tries.append(task.attempt)
        task.began = self.now + (0.0 if task.loaded else LOAD_SECONDS)
        task.loaded = True
        stops = tar.clips if not self.kills(task, tar) else tar.poison or 0
        in_time = int(max(0.0, deadline - task.began) / tar.clip_seconds) + 1
        self.at(task.began - self.now + min(stops - tar.lines, in_time) * tar.clip_seconds, "tar", task)

    @staticmethod
    def kills(task: Task, tar: Tar) -> bool:
        """Whether it still has a clip that kills, and the task was not told to leave it alone."""
        told = task.submission.told.get(tar.task.name, ())
        return tar.poison is not None and tar.poison >= tar.lines and tar.poison not in told

    def next_tar(self, task: Task) -> Tar | None:
        """Its own, then those of others in its submission that are not begun."""
        tried = {attempt.name for attempt in task.tries}
        while task.own:
            tar = task.own.popleft()
            if self.takes(task, tar) and tar.task.name not in tried:
                return tar
        one = task.submission
        while one.helped < len(one.tars):
            tar = one.tars[one.helped]
            one.helped += 1
            if self.takes(task, tar) and tar.task.name not in tried:
                return tar
        return None

    @staticmethod
    def takes(task: Task, tar: Tar) -> bool:
        """Whether it is neither done nor claimed."""
        left_in_round = tar.left_by is not None and tar.left_by.submission is task.submission
        return not tar.done and tar.holder is None and not left_in_round

    def stop_tar(self, task: Task, outcome: Ending) -> None:
        """Lines so far are in the partial; the tar is held no more."""
        if task.tar is None or task.attempt is None:
            return
        tar, attempt = task.tar, task.attempt
        gained = min(int(max(0.0, self.now - task.began) / tar.clip_seconds + 1e-6), tar.clips - tar.lines)
        if self.kills(task, tar):
            gained = min(gained, (tar.poison or 0) - tar.lines)
        attempt.outcome, attempt.gained = outcome, gained
        tar.lines += gained
        self.busy_seconds += gained * tar.clip_seconds
        task.gained_in_life |= gained > 0
        tar.holder = task.tar = task.attempt = None
        task.submission.tries.append(NodeTry(task.node, attempt))
        if tar in task.planned:  # its own task will not try it again
            task.planned.remove(tar)
            tar.planned -= 1

    def finish_tar(self, task: Task) -> None:
        """The tar is done, or its next clip kills, or time is up."""
        tar, attempt = task.tar, task.attempt
        if tar is None or attempt is None:
            return
        kills = self.kills(task, tar)
        self.stop_tar(task, "yielded")
        if tar.lines >= tar.clips:
            attempt.outcome, tar.done = "committed", True
            self.done_bytes += tar.task.bytes
        elif kills and tar.lines == tar.poison:
            attempt.outcome, attempt.clip = "died", tar.poison
            tar.left_by, tar.left_at = task, self.now
            task.idle_lives = 0 if task.gained_in_life else task.idle_lives + 1
            task.loaded = task.gained_in_life = False
            if task.idle_lives >= IDLE_LIVES:
                self.end(task)
                return
        self.take(task)


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--median-seconds", type=float, nargs="*", default=[100.0, 600.0], help="of work in a tar")
    parser.add_argument("--tars-per-gpu", default="auto")
    given = parser.parse_args()
    per_gpu = int(given.tars_per_gpu) if given.tars_per_gpu.isdigit() else given.tars_per_gpu
    met = True
    for median in given.median_seconds:
        campaign = Campaign(median, per_gpu)
        outcome = campaign.run()
        bound = max(campaign.longest, campaign.work / GPUS)
        ratio = campaign.now / bound
        ok = ratio <= GOAL and outcome == "finished"
        met = met and ok
        print(
            f"{TARS:,} tars, median {median:g} s, longest {campaign.longest / 3600:.1f} h, on {GPUS} GPUs: "
            f"{campaign.now / 3600:.1f} h, bound {bound / 3600:.1f} h: {ratio:.3f} (goal {GOAL}) "
            f"{'ok' if ok else 'ABOVE GOAL'}\n"
            f"  {outcome}, {len(campaign.quarantined)} in quarantine, nodes avoided: {len(campaign.excluded)}; "
            f"{campaign.tasks:,} tasks in {len(campaign.submissions):,} arrays, nodes lost {campaign.lost} times, "
            f"{campaign.rounds:,} rounds, decide {campaign.decide_seconds / campaign.rounds:.2f} s each",
            flush=True,
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
