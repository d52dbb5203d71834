"""What a fault of a soak does to a real cluster and to the run on it, and how it is undone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`

from support.process_holder import kill
from support.real_cluster import RealCluster
from support.slurm_files import NODES
from support.slurm_runs import SlurmRun

from benchmarks.soak_plan import DISK_FULL
from jobs.claims import Claim, process_start

__all__ = ["FAULTS", "Hit", "Lab"]

MOST_NODES_DOWN = 2
CONTROLLER_LIVES_S = 2.0
"""Longer than a round takes on an idle machine."""
BALLAST = ".ballast"


@dataclass
class Lab:
    """What faults happen to."""

    cluster: RealCluster
    run: SlurmRun
    down: set[str] = field(default_factory=set)
    """Nodes without power."""


@dataclass(frozen=True)
class Hit:
    """A fault that has happened."""

    what: str
    tars: frozenset[str]
    """Names of the tars that were in hand where it struck."""
    mend: Callable[[], None] | None = None


def _hit(what: str, claims: Mapping[str, Claim], mend: Callable[[], None] | None = None) -> Hit:
    return Hit(what, frozenset(claims), mend)


def _one_claim(lab: Lab, source: random.Random) -> dict[str, Claim]:
    """A tar in hand of a process that lives, or nothing."""
    found = {name: claim for name, claim in lab.run.claims().items() if process_start(claim.pid) == claim.started}
    if not found:
        return {}
    name = source.choice(sorted(found))
    return {name: found[name]}


def _of_node(lab: Lab, node: str) -> dict[str, Claim]:
    return {name: claim for name, claim in lab.run.claims().items() if claim.host == node}


def lose_node(lab: Lab, source: random.Random) -> Hit | None:
    """Cut a node's power, with tasks at work on it if there are any."""
    if len(lab.down) >= MOST_NODES_DOWN:
        return None
    alive = sorted(set(NODES) - lab.down)
    at_work = [node for node in alive if _of_node(lab, node)]
    node = source.choice(at_work or alive)
    claims = _of_node(lab, node)
    lab.down.add(node)
    lab.cluster.kill_node(node)

    def boot() -> None:
        lab.cluster.run("scontrol", "ping")  # CommandError while there is no controller: the power comes later then
        lab.cluster.boot_node(node)
        lab.down.discard(node)

    return _hit(node, claims, boot)


def cancel_task(lab: Lab, source: random.Random) -> Hit | None:
    """Scancel an array task, or now and then the whole array."""
    rows = [row for row in lab.cluster.squeue() if row.state in ("RUNNING", "PENDING")]
    if not rows:
        return None
    row = source.choice(rows)
    target = row.id.partition("_")[0] if source.random() < 0.15 else row.id
    claims = _of_node(lab, row.node) if row.node else {}
    lab.cluster.run("scancel", target)
    return _hit(f"{target}, {row.state.lower()}", claims)


def fill_disk(lab: Lab, _source: random.Random) -> Hit:
    """Take all room of the output directory's file system, a small one of its own."""
    ballast = lab.run.output / BALLAST
    claims = lab.run.claims()
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1 << 20, 4096):
            with suppress(OSError):  # ENOSPC is what it waits for
                while True:
                    os.write(fd, bytes(size))
    finally:
        os.close(fd)
    return _hit("the output directory", claims, lambda: ballast.unlink(missing_ok=True))


def freeze_worker(lab: Lab, source: random.Random) -> Hit | None:
    """Stop a worker; its witness goes on. Later it wakes, if it is still there."""
    claims = _one_claim(lab, source)
    for name, claim in claims.items():
        kill([claim.pid], signal.SIGSTOP)

        def thaw(claim: Claim = claim) -> None:
            if process_start(claim.pid) == claim.started:
                kill([claim.pid], signal.SIGCONT)

        return _hit(f"{name} on {claim.host}", claims, thaw)
    return None


def kill_worker(lab: Lab, source: random.Random) -> Hit | None:
    """SIGKILL for a worker; its witness lives to tell."""
    claims = _one_claim(lab, source)
    for name, claim in claims.items():
        kill([claim.pid])
        return _hit(f"{name} on {claim.host}", claims)
    return None


def kill_task(lab: Lab, source: random.Random) -> Hit | None:
    """SIGKILL for a worker and its witness, the witness first."""
    claims = _one_claim(lab, source)
    for name, claim in claims.items():
        with suppress(OSError):
            parent = int(Path(f"/proc/{claim.pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
            kill([parent, claim.pid])
            return _hit(f"{name} on {claim.host}", claims)
    return None


def kill_stepd(lab: Lab, source: random.Random) -> Hit | None:
    """SIGKILL for the slurmstepds of a task: Slurm loses sight of it, and it works on."""
    rows = [row for row in lab.cluster.squeue() if row.state == "RUNNING"]
    if not rows:
        return None
    row = source.choice(rows)
    claims = _of_node(lab, row.node)
    try:
        lab.cluster.kill_stepd(row.id)
    except RuntimeError:  # it has ended meanwhile
        return None
    return _hit(f"{row.id} on {row.node}", claims)


def kill_controller(lab: Lab, source: random.Random) -> Hit:
    """Start a round, and kill it at some moment."""
    words = [sys.executable, "-m", "hpc.resume", "--once", "--output-dir", str(lab.run.output)]
    with subprocess.Popen(words, env=lab.run.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        lives = source.uniform(0, CONTROLLER_LIVES_S)
        with suppress(subprocess.TimeoutExpired):
            controller.wait(lives)
        controller.kill()
    return Hit(f"after {lives:.1f} s", frozenset())


def stop_slurmctld(lab: Lab, _source: random.Random) -> Hit | None:
    """Shut Slurm's controller down. Started again it knows the jobs that it knew."""
    try:
        lab.cluster.run("scontrol", "ping")
    except RuntimeError:  # it is away already
        return None
    lab.cluster.stop_controller()
    return Hit("", frozenset(), lab.cluster.start_controller)


def restart_slurmd(lab: Lab, source: random.Random) -> Hit | None:
    """Kill a node's daemon and start it at once; its jobs run on."""
    node = source.choice(sorted(set(NODES) - lab.down))
    lab.cluster.restart_daemon(node)
    return _hit(node, _of_node(lab, node))


def restart_slurmdbd(lab: Lab, _source: random.Random) -> Hit:
    """Kill the accounting's daemon and start it at once."""
    lab.cluster.restart_daemon("slurmdbd")
    return Hit("", frozenset())


FAULTS: Mapping[str, Callable[[Lab, random.Random], Hit | None]] = {
    "a node loses power": lose_node,
    "a task is cancelled": cancel_task,
    DISK_FULL: fill_disk,
    "a worker is frozen": freeze_worker,
    "a worker is killed": kill_worker,
    "a worker and its witness are killed": kill_task,
    "a slurmstepd is killed": kill_stepd,
    "the controller is killed": kill_controller,
    "slurmctld is away": stop_slurmctld,
    "a slurmd is restarted": restart_slurmd,
    "slurmdbd is restarted": restart_slurmdbd,
}
"""By the names of soak_plan.KINDS. None, where there is nothing to hit, and CommandError, without a controller, say to come
again.
"""
