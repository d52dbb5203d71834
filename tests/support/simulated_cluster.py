"""A cluster, its workers and a run's files, in memory and without time: the test decides what happens next.

It mirrors hpc.controller in what a round knows, and hpc.task and jobs.worker in what happens to a tar. The controller has no
memory here: it derives its knowledge from the files and Slurm's answers in every round.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hpc.policy import Decision, TarFact
from hpc.tries import Evidence, NodeTry
from jobs.progress import UNENDED, Try

Health = Literal["up", "down", "broken", "deadly"]
"""On a `broken` node every worker meets trouble with its GPU; on a `deadly` one it is killed with its first clip in hand."""
IDLE_LIVES = 2
CLIPS_IN_HAND = 3
"""Of a worker that need not take them one at a time."""


@dataclass
class Tar:
    """A tar, and the files that speak of it."""

    name: str
    clips: int
    poison: frozenset[int] = frozenset()
    """Clips that kill every worker that decodes them."""
    fault: Literal["", "cut", "missing", "stuck"] = ""
    """`cut`: it ends too early, after its clips. `stuck`: reading it never ends, from the first byte on."""
    endless: frozenset[int] = frozenset()
    """Those of the clips that kill whose decoding never ends, until a witness ends it."""
    lines: list[str] = field(default_factory=list)
    """`tokens`, `crash` or `timeout`, one for each clip so far."""
    committed: bool = False
    broken: str | None = None
    claim: Task | None = None
    killed: Counter[int] = field(default_factory=Counter)
    """Workers that died with each clip in hand."""
    trouble: int = 0
    """Tries that ended by themselves without a new line."""
    kills: int = 0
    """Tries that somebody ended without a new line."""


@dataclass(eq=False)
class Task:
    """An array task of one worker."""

    submission: int
    tars: list[str]
    told: dict[str, tuple[int, ...]]
    """What its plan says of clips that are not to be touched."""
    timed_out: dict[str, tuple[int, ...]]
    """What it says of those that never end."""
    alone: frozenset[str]
    """Tars whose clips its plan wants to be taken one at a time."""
    excluded: frozenset[str]
    earlier: set[Task]
    """Tasks that may have been alive when its plan was made."""
    state: Literal["pending", "running", "gone"] = "pending"
    denied: bool = False
    """Slurm says that it is gone, whatever it is."""
    node: str = ""
    tries: list[Try] = field(default_factory=list)
    published: list[Try] | None = None
    late: bool = False
    """The file system hides its reports for now."""
    search: list[str] = field(default_factory=list)
    """Tars in which its worker has died with several clips in hand."""
    idle_lives: int = 0
    killed: list[str] = field(default_factory=list)
    """Tars that it had in hand when somebody killed its worker: they are tried again."""
    gained_in_life: int = 0

    @property
    def current(self) -> Try | None:
        """The try at the tar in hand."""
        return self.tries[-1] if self.tries and self.tries[-1].outcome in UNENDED else None


@dataclass
class Closed:
    """What is left of a submission that has ended."""

    tries: tuple[NodeTry, ...]
    silent: int


class SimulatedCluster:
    """Everything that a controller could see, and what it cannot."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes: dict[str, Health] = dict.fromkeys(nodes, "up")
        self.tars: dict[str, Tar] = {}
        self.tasks: list[Task] = []
        self.closed: dict[int, Closed] = {}
        self.submissions = 0
        self.blind = False
        """Nobody can tell what lives."""
        self.amnesty = 0

    # What a controller sees

    def may_live(self, task: Task) -> bool:
        """As far as a controller can tell."""
        if task.submission in self.closed:
            return False
        return self.blind or (task.state != "gone" and not task.denied)

    def close(self) -> None:
        """Keep what is there of submissions that have ended, as far as anyone can tell."""
        for number in range(1, self.submissions + 1):
            tasks = [task for task in self.tasks if task.submission == number]
            if number not in self.closed and not any(self.may_live(task) for task in tasks):
                silent = sum(task.node != "" and task.published is None for task in tasks)
                self.closed[number] = Closed(tuple(copy.deepcopy(list(_reported(tasks)))), silent)

    def facts(self) -> list[TarFact]:
        """What the files and Slurm say of each tar."""
        planned = {name for task in self.tasks if self.may_live(task) for name in set(task.tars) - _given_up(task)}
        return [
            TarFact(
                tar.name,
                done=tar.committed,
                taken=tar.name in planned or (tar.claim is not None and self.may_live(tar.claim)),
                broken=tar.broken,
            )
            for tar in self.tars.values()
        ]

    def evidence(self) -> list[Evidence]:
        """What tasks have reported, but for what living ones have in hand."""
        found = []
        for number in range(self.amnesty + 1, self.submissions + 1):
            if number in self.closed:
                closed = self.closed[number]
                found.append(Evidence(number, ended=True, tries=closed.tries, silent=closed.silent))
            else:
                tasks = [task for task in self.tasks if task.submission == number]
                living = [task for task in tasks if self.may_live(task)]
                tries = [NodeTry(task.node, attempt) for task in living for attempt in _ended(task)]
                ended = _reported([task for task in tasks if task not in living])
                found.append(Evidence(number, ended=False, tries=(*tries, *ended)))
        return found

    def submit(self, decision: Decision, tars_per_task: int = 1) -> None:
        """One task for each few of the tars."""
        if not decision.submit:
            return
        self.submissions += 1
        earlier = {task for task in self.tasks if self.may_live(task)}
        alone = frozenset(decision.one_at_a_time)
        names = list(decision.submit)
        while names:
            own, names = names[:tars_per_task], names[tars_per_task:]
            told = {name: decision.crash_clips.get(name, ()) for name in decision.submit}
            excluded = frozenset(decision.exclude)
            self.tasks.append(Task(self.submissions, own, told, decision.timed_out, alone, excluded, earlier))

    # What happens

    def in_state(self, state: str) -> list[Task]:
        """Tasks that really are."""
        return [task for task in self.tasks if task.state == state]

    def places(self, task: Task) -> list[str]:
        """Nodes where a pending task may start."""
        return [node for node, health in self.nodes.items() if health != "down" and node not in task.excluded]

    def start(self, task: Task, node: str) -> None:
        """Begin: there is a log from now on."""
        task.state, task.node = "running", node

    def work(self, task: Task, clips: int) -> None:
        """Go on for so many clips, or until the task ends."""
        for _ in range(clips + 1):  # the first step may only take a tar
            if task.state != "running":
                break
            attempt = task.current or self._take(task)
            if attempt is None:
                self._end(task)
            else:
                self._step(task, attempt)
        self.report(task)

    def fail(self, task: Task) -> None:
        """The worker meets trouble with its machine, which ends the task."""
        attempt = task.current or self._take(task)
        if attempt is not None:
            attempt.outcome, attempt.problem = "machine", "CUDA error"
            self.tars[attempt.name].trouble += attempt.gained == 0
            self._give_back(task, attempt)
        self._end(task)
        self.report(task)

    def kill(self, task: Task) -> None:
        """Somebody kills its worker, and not its witness, who lets another one go on."""
        attempt = task.current or self._take(task)
        if attempt is not None:
            attempt.outcome, attempt.problem = "killed", "killed by signal 9 without a memory event"
            self.tars[attempt.name].kills += attempt.gained == 0
            task.killed.append(attempt.name)
        task.idle_lives = 0 if task.gained_in_life else task.idle_lives + 1
        task.gained_in_life = 0
        if attempt is None or task.idle_lives >= IDLE_LIVES:
            self._end(task)
        self.report(task)

    def stop(self, task: Task, *, politely: bool) -> None:
        """A time limit or preemption; a worker that is asked politely flushes and leaves its claim."""
        attempt = task.current
        if politely and attempt is not None:
            attempt.outcome = "yielded"
            self._give_back(task, attempt)
            self.report(task)
        self._end(task)

    def lose_node(self, node: str) -> None:
        """All of its tasks die, and so do their witnesses."""
        self.nodes[node] = "down"
        for task in self.in_state("running"):
            if task.node == node:
                self._end(task)

    def break_node(self, node: str, health: Health) -> None:
        """Its GPUs fail: running tasks report it, and so do later ones."""
        self.nodes[node] = health
        for task in self.in_state("running"):
            if task.node == node:
                self.fail(task)

    def report(self, task: Task) -> None:
        """Make its reports visible, unless the file system is late."""
        if not task.late and task.tries:
            task.published = copy.deepcopy(task.tries)

    def forget_claims(self) -> None:
        """Claims of workers that have died give no sign of life for so long that they are void, though their task lives."""
        for tar in self.tars.values():
            if tar.claim is not None and (tar.claim.current is None or tar.claim.current.name != tar.name):
                tar.claim = None

    def replace(self, tar: Tar) -> None:
        """Somebody puts a whole tar in the place of one that is cut or missing."""
        tar.fault, tar.broken, tar.lines = "", None, []

    def _end(self, task: Task) -> None:
        task.state = "gone"

    def _take(self, task: Task) -> Try | None:
        others = [name for other in self.tasks if other.submission == task.submission for name in other.tars]
        tried = {attempt.name for attempt in task.tries}
        for name in [*task.search, *task.killed, *task.tars, *others]:
            tar, searched = self.tars[name], name in (*task.search, *task.killed)
            if not searched and (name in tried or (name not in task.tars and (tar.committed or tar.claim))):
                continue
            if searched and tar.claim is task:  # its own worker, which is dead
                tar.claim = None
            tried.add(name)
            before = [one for one in task.tries if one.name == name]
            alone = name in task.search or name in task.alone or (bool(before) and before[-1].alone)
            task.killed = [other for other in task.killed if other != name]
            task.search = [other for other in task.search if other != name]
            attempt = Try(name, crash_clips=task.told.get(name, ()), alone=alone)
            task.tries.append(attempt)
            if tar.committed:
                attempt.outcome = "committed"
            elif tar.claim is not None and not self._void(tar.claim, task):
                attempt.outcome = "left_alone"
            else:
                tar.claim = task
                return attempt
        return None

    @staticmethod
    def _void(holder: Task, task: Task) -> bool:
        return holder.submission < task.submission and holder not in task.earlier

    def _step(self, task: Task, attempt: Try) -> None:
        tar = self.tars[attempt.name]
        clip = len(tar.lines)
        if tar.claim is not task or tar.committed:
            attempt.outcome = "committed" if tar.committed else "left_alone"
        elif self.nodes[task.node] == "broken":
            self.fail(task)
        elif tar.fault == "stuck":
            attempt.outcome, attempt.problem = "machine", "reading it has made no progress"
            tar.trouble += attempt.gained == 0
            self._live_again(task)
        elif tar.fault == "missing":
            attempt.outcome, attempt.problem = "failed", "no such tar"
            tar.trouble += 1
            self._give_back(task, attempt)
        elif clip < tar.clips and clip in attempt.crash_clips:
            self._line(task, attempt, "timeout" if clip in task.timed_out.get(tar.name, ()) else "crash")
        elif clip < tar.clips and (self._meets_poison(tar, attempt, clip) or self.nodes[task.node] == "deadly"):
            self._die(task, attempt, clip)
        elif clip < tar.clips:
            self._line(task, attempt, "tokens")
        elif tar.fault == "cut":
            attempt.outcome, tar.broken = "damaged", "cut"
            self._give_back(task, attempt)
        else:
            attempt.outcome, tar.committed = "committed", True
            self._give_back(task, attempt)

    @staticmethod
    def _meets_poison(tar: Tar, attempt: Try, clip: int) -> bool:
        in_hand = range(clip, clip + (1 if attempt.alone else CLIPS_IN_HAND))
        return any(clip in tar.poison and clip not in attempt.crash_clips for clip in in_hand)

    def _line(self, task: Task, attempt: Try, kind: str) -> None:
        attempt.outcome = "working"
        attempt.gained += 1
        task.gained_in_life += 1
        self.tars[attempt.name].lines.append(kind)

    def _die(self, task: Task, attempt: Try, clip: int) -> None:
        attempt.outcome, attempt.problem, attempt.several = "died", "SIGSEGV", not attempt.alone
        tar = self.tars[attempt.name]
        attempt.timed_out = bool(tar.endless & set(range(clip, clip + (1 if attempt.alone else CLIPS_IN_HAND))))
        if attempt.alone:
            attempt.clip = clip
            tar.killed[clip] += 1
            tar.trouble += attempt.gained == 0
        else:
            task.search.append(attempt.name)
        if task.gained_in_life:
            task.idle_lives = 0
        elif attempt.alone:
            task.idle_lives += 1
        task.gained_in_life = 0
        if task.idle_lives >= IDLE_LIVES:
            self._end(task)

    def _live_again(self, task: Task) -> None:
        """Its witness has ended a worker that could not read; the claim is that of a dead process."""
        task.idle_lives = 0 if task.gained_in_life else task.idle_lives + 1
        task.gained_in_life = 0
        if task.idle_lives >= IDLE_LIVES:
            self._end(task)

    def _give_back(self, task: Task, attempt: Try) -> None:
        if self.tars[attempt.name].claim is task:
            self.tars[attempt.name].claim = None


def _ended(task: Task) -> list[Try]:
    """The tries that a task has reported, without that at the tar in hand."""
    return [attempt for attempt in task.published or () if attempt.outcome not in UNENDED]


def _given_up(task: Task) -> set[str]:
    """The tars that a task has reported to be done with."""
    last = {attempt.name: attempt for attempt in task.published or ()}
    return {name for name, attempt in last.items() if attempt.outcome not in UNENDED and not attempt.several}


def _reported(tasks: list[Task]) -> Iterator[NodeTry]:
    for task in tasks:
        for attempt in task.published or ():
            yield NodeTry(task.node, attempt)
