"""tools/rehearsing/trial.py: throw-away runs through the controller's rounds."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.rehearsed import QuickCluster
from support.runs import committed_bytes
from support.small_run import mulaw_spec, small_tar

from hpc.launch import Launch
from hpc.plan import slots_for
from tools.rehearsing.trial import Trial, launch_on, launch_with_one, make_trial, work


def launch_of(**settings: Any) -> Launch:
    return Launch(**{"cluster": "slurm", "device": "cpu", "gpus_per_node": 0, **settings})


def trial(folder: Path, name: str, cluster: QuickCluster, *, to_interrupt: bool = False) -> Trial:
    """A trial of two small tars on this cluster."""
    tars = [small_tar(folder / "in" / str(n) / "a.tar") for n in range(2)]
    return make_trial(
        name,
        folder / name,
        tars,
        mulaw_spec(),
        launch_with_one(launch_of(), 2),
        None,
        to_interrupt=to_interrupt,
        open_cluster=lambda _launch: cluster,
    )


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    """The tasks are ended once, in the middle of a tar; then others finish it with the bytes of an undisturbed trial."""
    cluster = QuickCluster(launch_of())
    cluster.interrupt = True
    one, broken = trial(tmp_path, "one", QuickCluster(launch_of())), trial(tmp_path, "two", cluster, to_interrupt=True)
    work([one, broken], pause_s=0.02)
    assert (broken.outcome.problem, broken.outcome.interrupted, len(cluster.jobs)) == ("", True, 2)
    assert (one.outcome.problem, one.outcome.interrupted) == ("", False)
    assert committed_bytes(tmp_path / "one").keys() == committed_bytes(tmp_path / "two").keys() != set()
    assert committed_bytes(tmp_path / "one") == committed_bytes(tmp_path / "two")


def test_a_trial_that_is_too_fast_to_interrupt(tmp_path: Path) -> None:
    """The trial ends well, and says that it was not interrupted."""
    fast = trial(tmp_path, "fast", QuickCluster(launch_of()), to_interrupt=True)
    work([fast], pause_s=0.01)
    assert (fast.outcome.problem, fast.outcome.interrupted) == ("", False)


def test_a_node_that_is_never_free(tmp_path: Path) -> None:
    """Its task is given up and cancelled after a while; one that has begun is waited for."""
    launch = launch_on(launch_of(), "n1", 2)
    cluster = QuickCluster(launch, bad={"n1": "waits"})
    waiting = trial(tmp_path, "waiting", cluster)
    work([waiting], pause_s=0.01, wait_s=0.05)
    assert (waiting.outcome.untried, waiting.outcome.problem) == (True, "none of its tasks had begun after 0 s")
    assert cluster.living() == []


def test_what_fails_again_and_again(tmp_path: Path) -> None:
    """Three submissions are enough to say so; a run would go on for longer."""
    cluster = QuickCluster(launch_of(), bad={"n0": "fails"})
    broken = trial(tmp_path, "broken", cluster)
    work([broken], pause_s=0.01)
    assert (broken.outcome.untried, broken.outcome.problem) == (False, "CUDA error: an illegal memory access")
    assert len(cluster.jobs) <= 4
    assert cluster.living() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_no_task(number: int, code: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM cancel all tasks and end with 128 + signal."""
    cluster = QuickCluster(launch_of(), bad={"n0": "waits"})
    one = trial(tmp_path, "one", cluster)
    one.step()
    assert cluster.living()
    one.step = lambda: bool(os.kill(os.getpid(), number))  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(SystemExit) as end:
        work([one], pause_s=60)
    assert (end.value.code, cluster.living()) == (code, [])


@pytest.mark.parametrize("gpus", [0, 1, 4])
@pytest.mark.parametrize("procs", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 5, 24])
def test_one_task_takes_all(gpus: int, procs: int, parts: int) -> None:
    """A trial is one array task, on any shape of site; that of one worker is one process."""
    launch = launch_of(gpus_per_node=gpus, procs_per_gpu=procs, max_running=7, slurm={"exclude": "n3", "nodelist": "n9"})
    for one, processes in ((launch_on(launch, "n1", parts), max(1, gpus) * procs), (launch_with_one(launch, parts), 1)):
        assert one.processes == processes
        assert isinstance(one.tars_per_gpu, int)
        slots = slots_for([None] * parts, one.tars_per_gpu, one.procs_per_gpu, 3600, None)  # type: ignore[list-item]
        assert math.ceil(min(slots, parts) / one.processes) == 1
        assert one.max_running is None
    assert launch_on(launch, "n1", parts).slurm == {"nodelist": "n1"}
