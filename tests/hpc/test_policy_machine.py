"""hpc/policy.py against a cluster that does its worst: nothing is lost, nobody is blamed without reason, and it ends."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.simulated_cluster import SimulatedCluster, Tar, Task

from hpc.node_faults import SAME_TROUBLE_TARS
from hpc.outside_kills import KILLS_REPORTED
from hpc.policy import Decision, decide

NODES = ["n1", "n2", "n3", "n4"]
MANY_TARS = 8
TAR_TRIES, CLIP_DEATHS = 3, 2
"""What README promises."""
ROUNDS = 40
"""In which a list of MANY_TARS has to come to its end once nothing new goes wrong."""

tar_shapes = st.tuples(
    st.integers(0, 6),
    st.sets(st.integers(0, 5), max_size=3),
    st.booleans(),
    st.sampled_from(["", "", "", "", "cut", "missing", "stuck"]),
)

Shape = tuple[int, set[int], bool, Literal["", "cut", "missing", "stuck"]]
"""Clips, those that kill, whether they do so by never ending, and what is wrong with the file."""


class PolicyMachine(RuleBasedStateMachine):
    """Each step is something that happens on a cluster, or a round of a controller that knows only what is on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = SimulatedCluster(NODES)
        self.turn = 0
        """Which node takes the next task."""

    def decide(self) -> Decision:
        return decide(self.cluster.facts(), self.cluster.evidence())

    def add(self, shape: Shape) -> None:
        clips, poison, endless, fault = shape
        if sum(0 in tar.poison for tar in self.cluster.tars.values()) == SAME_TROUBLE_TARS - 1:
            poison = poison - {0}  # more tars whose very first clip kills look like a machine that kills, and stop the loop
        name = f"tar{len(self.cluster.tars)}"
        self.cluster.tars[name] = Tar(name, clips, frozenset(poison), fault, frozenset(poison if endless else ()))

    @initialize(shapes=st.lists(tar_shapes, min_size=1, max_size=5))
    def user_submits_a_list(self, shapes: list[Shape]) -> None:
        for shape in shapes:
            self.add(shape)

    @precondition(lambda self: len(self.cluster.tars) < MANY_TARS)
    @rule(shape=tar_shapes)
    def user_adds_a_tar(self, shape: Shape) -> None:
        self.add(shape)

    @precondition(lambda self: any(tar.fault for tar in self.cluster.tars.values()))
    @rule()
    def user_copies_a_tar_again(self) -> None:
        tar = next(tar for tar in self.cluster.tars.values() if tar.fault)
        if tar.fault in ("missing", "stuck") or tar.broken:
            self.cluster.replace(tar)

    @rule()
    def user_retries_the_quarantined(self) -> None:
        self.cluster.amnesty = self.cluster.submissions

    @rule(tars_per_task=st.integers(1, 3))
    def controller_makes_a_round(self, tars_per_task: int) -> None:
        self.cluster.close()
        self.cluster.submit(self.decide(), tars_per_task)

    @rule(clips=st.integers(0, 9))
    def a_quiet_while(self, clips: int) -> None:
        """Without it the steps below would mostly meet tars that nobody has begun."""
        for task in self.cluster.in_state("pending"):
            self.start(task)
        for task in self.cluster.in_state("running"):
            self.cluster.work(task, clips)
        self.controller_makes_a_round(1)

    def start(self, task: Task) -> None:
        if places := self.cluster.places(task):
            self.cluster.start(task, places[self.turn % len(places)])
            self.turn += 1

    def some(self, state: Literal["pending", "running"], number: int) -> Task:
        tasks = self.cluster.in_state(state)
        return tasks[number % len(tasks)]

    @precondition(lambda self: self.cluster.in_state("pending"))
    @rule(number=st.integers(0, 99), place=st.integers(0, 99))
    def task_starts(self, number: int, place: int) -> None:
        task = self.some("pending", number)
        if places := self.cluster.places(task):
            self.cluster.start(task, places[place % len(places)])

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99), clips=st.integers(0, 9))
    def task_works(self, number: int, clips: int) -> None:
        self.cluster.work(self.some("running", number), clips)

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99))
    def worker_meets_trouble(self, number: int) -> None:
        self.cluster.fail(self.some("running", number))

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99))
    def somebody_kills_a_worker(self, number: int) -> None:
        self.cluster.kill(self.some("running", number))

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99), politely=st.booleans())
    def time_is_up(self, number: int, *, politely: bool) -> None:
        self.cluster.stop(self.some("running", number), politely=politely)

    @precondition(lambda self: self.cluster.in_state("pending"))
    @rule(number=st.integers(0, 99))
    def user_cancels_a_pending_task(self, number: int) -> None:
        self.cluster.stop(self.some("pending", number), politely=False)

    @rule(node=st.sampled_from(NODES))
    def node_is_lost(self, node: str) -> None:
        if self.cluster.nodes[node] == "up":
            self.cluster.lose_node(node)

    @rule(node=st.sampled_from(NODES))
    def node_comes_back(self, node: str) -> None:
        if self.cluster.nodes[node] == "down":
            self.cluster.nodes[node] = "up"

    @precondition(lambda self: not {"broken", "deadly"} & set(self.cluster.nodes.values()))
    @rule(node=st.sampled_from(NODES), health=st.sampled_from(["broken", "deadly"]))
    def gpus_of_a_node_break(self, node: str, health: Literal["broken", "deadly"]) -> None:
        self.cluster.break_node(node, health)

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99))
    def slurm_says_that_a_living_task_is_gone(self, number: int) -> None:
        self.some("running", number).denied = True

    @rule()
    def slurm_stops_or_begins_to_answer(self) -> None:
        self.cluster.blind = not self.cluster.blind

    @precondition(lambda self: self.cluster.in_state("running"))
    @rule(number=st.integers(0, 99))
    def reports_are_late(self, number: int) -> None:
        self.some("running", number).late = True

    @rule()
    def late_reports_appear(self) -> None:
        for task in self.cluster.tasks:
            task.late = False
            self.cluster.report(task)

    @rule()
    def claims_of_dead_workers_grow_stale(self) -> None:
        self.cluster.forget_claims()

    @invariant()
    def decision_is_sound(self) -> None:
        """What must hold of every decision, whatever has happened."""
        tars, decision = self.cluster.tars, self.decide()
        taken = {fact.name for fact in self.cluster.facts() if fact.taken and not fact.done}
        done = {name for name, tar in tars.items() if tar.committed}
        submit, quarantine = set(decision.submit), set(decision.quarantine)
        assert not submit & done
        assert not submit & taken
        assert not quarantine & (submit | done | taken)
        for name in quarantine:
            assert tars[name].broken or tars[name].trouble >= TAR_TRIES or tars[name].kills >= KILLS_REPORTED
        for name, clips in decision.crash_clips.items():
            assert all(tars[name].killed[clip] >= CLIP_DEATHS for clip in clips)
            assert set(decision.timed_out.get(name, ())) <= set(clips)
        left = set(tars) - done - taken - submit - quarantine
        assert not left or decision.diagnosis
        assert (decision.outcome == "finished") == (done == set(tars))
        assert (decision.outcome == "running") == bool(taken or submit)
        assert (decision.outcome == "stuck") == bool(left and not taken and not submit)
        assert len(decision.exclude) < len(NODES)

    def teardown(self) -> None:
        """From here on nothing new goes wrong: then it ends, and every good clip has its tokens."""
        cluster = self.cluster
        cluster.blind = False
        for node, health in cluster.nodes.items():
            cluster.nodes[node] = "up" if health == "down" else health
        for _ in range(ROUNDS):
            self.late_reports_appear()
            self._run_all()
            cluster.close()
            decision = self.decide()
            self.decision_is_sound()
            whole = {name for name in decision.quarantine if not cluster.tars[name].fault}
            if decision.outcome == "finished" or (decision.outcome == "quarantined" and not whole):
                break
            if decision.outcome == "stuck":  # the diagnosis shows whose log to read
                cluster.nodes = dict.fromkeys(NODES, "up")
                for tar in cluster.tars.values():
                    if tar.fault in ("missing", "stuck"):
                        cluster.replace(tar)
            if decision.outcome != "running":
                cluster.amnesty = cluster.submissions
            cluster.submit(self.decide())
        else:
            raise AssertionError(f"no end: {decision}")
        for tar in cluster.tars.values():
            assert tar.committed or tar.fault
            for clip, line in enumerate(tar.lines):
                assert line == "tokens" or tar.killed[clip] >= CLIP_DEATHS
                assert line != "tokens" or clip not in tar.poison
                assert line != "timeout" or clip in tar.endless

    def _run_all(self) -> None:
        """Let everything run to its end, the lost copies of tasks too; nodes take turns, and not the same each round."""
        self.turn += 1
        while tasks := [*self.cluster.in_state("pending"), *self.cluster.in_state("running")]:
            task = tasks[0]
            if task.state == "pending":
                self.start(task)
            self.cluster.work(task, 1000)


PolicyMachine.TestCase.settings = settings(
    max_examples=600,
    stateful_step_count=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPolicyMachine = pytest.mark.slow(PolicyMachine.TestCase)
