"""support/real_cluster.py: the cluster that the other tests here rely on behaves as Slurm does elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import patience
from support.process_holder import program_of
from support.real_cluster import FOLDER_LENGTH, CommandError, RealCluster, free_ports
from support.runs import ROOT, wait_for

TICK = "while :; do echo tick; sleep 0.1; done"


def ticks(path: Path) -> int:
    """How often a job that runs TICK has said so."""
    return path.read_text().count("tick") if path.exists() else 0


def assert_ticking(slurm: RealCluster, path: Path) -> None:
    """A job goes on writing."""
    before = ticks(path)
    slurm.wait(lambda: ticks(path) > before, f"{path.name} to grow")


def test_an_array_spreads_over_nodes_and_each_element_sees_its_gpu(slurm: RealCluster, tmp_path: Path) -> None:
    """One GPU each: no two elements that run together have the same one, and the fifth goes to another node."""
    line = f'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES" > {tmp_path}/$SLURM_ARRAY_TASK_ID; sleep 600'
    job = slurm.sbatch(line, "--array=0-5", "--gpus-per-node=1", "--cpus-per-task=1")
    slurm.wait(lambda: len([path for path in tmp_path.iterdir() if path.read_text()]) == 6, "six elements")
    assert sorted(path.read_text().split() for path in tmp_path.iterdir()) == [
        *(["n1", str(gpu)] for gpu in range(4)),
        *(["n2", str(gpu)] for gpu in range(2)),
    ]
    assert sorted(row.id for row in slurm.squeue(job)) == [f"{job}_{element}" for element in range(6)]
    assert {row.state for row in slurm.squeue(job)} == {"RUNNING"}


def test_four_tasks_fill_a_node(slurm: RealCluster, tmp_path: Path) -> None:
    """A step starts them on the node's four GPUs, as one job; its records say that it completed."""
    script = f"srun sh -c 'echo $SLURM_LOCALID $CUDA_VISIBLE_DEVICES > {tmp_path}/$SLURM_PROCID'"
    job = slurm.sbatch(script, "--nodes=1", "--ntasks-per-node=4", "--gpus-per-node=4", "--exclusive", "--nodelist=n2")
    slurm.wait(lambda: slurm.states(job) == ["COMPLETED"], "the job's end")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {str(n): f"{n} 0,1,2,3\n" for n in range(4)}


def test_a_node_that_loses_power_takes_its_job_and_gives_it_back(slurm: RealCluster, tmp_path: Path) -> None:
    """NODE_FAIL at once, every process of the node gone and no other's; booted, the node runs the requeued job."""
    lost, other = (tmp_path / name for name in ("lost", "other"))
    job = slurm.sbatch(f"echo start >> {lost}; [ $SLURM_RESTART_COUNT ] || setsid sh -c '{TICK}' >> {lost}", "--nodelist=n3")
    slurm.sbatch(TICK, "--nodelist=n4", f"--output={other}")
    slurm.wait(lambda: ticks(lost) and ticks(other), "both jobs")
    slurm.kill_node("n3")
    assert slurm.node_processes("n3") == []
    slurm.wait(lambda: slurm.states(job)[0] == "NODE_FAIL", "NODE_FAIL")
    assert slurm.node_states()["n3"].startswith("down")
    before = ticks(lost)
    assert_ticking(slurm, other)
    assert ticks(lost) == before
    slurm.boot_node("n3")
    slurm.wait(lambda: slurm.states(job) == ["NODE_FAIL", "COMPLETED"], "the second run")
    assert lost.read_text().count("start") == 2


def test_without_its_slurmstepd_a_job_goes_on_unknown(slurm: RealCluster, tmp_path: Path) -> None:
    """Its processes write on when Slurm has forgotten the job; other elements are not touched; reset ends the orphan."""
    job = slurm.sbatch(f"({TICK}) > {tmp_path}/$SLURM_ARRAY_TASK_ID", "--array=0-1")
    orphan, other = tmp_path / "0", tmp_path / "1"
    slurm.wait(lambda: ticks(orphan) and ticks(other), "both elements")
    slurm.kill_stepd(f"{job}_0")
    processes = slurm.job_processes(f"{job}_0")
    assert processes
    assert_ticking(slurm, orphan)
    slurm.run("scancel", job)
    slurm.wait(lambda: slurm.squeue() == [], "an empty queue")
    assert_ticking(slurm, orphan)
    before = ticks(other)
    slurm.reset()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    assert ticks(other) == before


def test_limits_refuse_whole_submissions(slurm: RealCluster) -> None:
    """As on a site with limits: nothing of a refused array is queued, and without the limit it is taken."""
    slurm.set_limit(MaxSubmitJobs=4)
    with pytest.raises(CommandError, match="AssocMaxSubmitJobLimit"):
        slurm.sbatch("sleep 600", "--array=0-4")
    assert slurm.squeue() == []
    slurm.sbatch("sleep 600", "--array=0-3")
    slurm.clear_limits()
    slurm.configure(MaxArraySize=6)
    with pytest.raises(CommandError, match="Invalid job array specification"):
        slurm.sbatch("sleep 600", "--array=0-6")
    slurm.sbatch("sleep 600", "--array=0-5")
    assert len(slurm.squeue()) == 10


def test_a_wait_goes_on_while_anything_moves(slurm: RealCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as jobs, nodes or tasks change; it gives up where all is quiet, and says what was awaited."""
    monkeypatch.setattr(patience, "QUIET_SECONDS", 2.0)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.2)
    computing = slurm.sbatch("timeout 5 sh -c 'while :; do :; done'")
    slurm.wait(lambda: not slurm.squeue(computing), "the end of a job that computes for longer than that")
    slurm.sbatch("sleep 600")
    with pytest.raises(TimeoutError, match=r"a miracle: not yet, and nothing has moved for 2 s"):
        slurm.wait(lambda: False, "a miracle")


def test_jobs_outlive_the_controller(slurm: RealCluster, tmp_path: Path) -> None:
    """While it is down a job runs on, and after it is up again the queue is as it was."""
    running = slurm.sbatch(TICK, f"--output={tmp_path}/running")
    waiting = slurm.sbatch("true", f"--dependency=afterany:{running}")
    slurm.wait(lambda: ticks(tmp_path / "running"), "the first job")
    slurm.stop_controller()
    assert_ticking(slurm, tmp_path / "running")
    slurm.start_controller()
    assert (slurm.state(running), slurm.state(waiting)) == ("RUNNING", "PENDING")
    slurm.run("scancel", running)
    slurm.wait(lambda: slurm.states(waiting) == ["COMPLETED"], "the second job")


def daemons(slurm: RealCluster, node: str) -> list[int]:
    """The slurmds of a node."""
    return [pid for pid in slurm.node_processes(node) if program_of(pid) == "slurmd"]


def test_jobs_outlive_their_node_s_daemon(slurm: RealCluster, tmp_path: Path) -> None:
    """A slurmd that is killed and started again finds its job, and records its end; so does the accounting's daemon."""
    job = slurm.sbatch(f"while ! [ -e {tmp_path}/go ]; do echo tick; sleep 0.1; done", f"--output={tmp_path}/out")
    slurm.wait(lambda: ticks(tmp_path / "out"), "the job")
    [node] = {row.node for row in slurm.squeue(job)}
    before = daemons(slurm, node)
    slurm.restart_daemon(node)
    slurm.restart_daemon("slurmdbd")
    assert len(before) == len(daemons(slurm, node)) == 1
    assert before != daemons(slurm, node)
    assert_ticking(slurm, tmp_path / "out")
    (tmp_path / "go").touch()
    slurm.wait(lambda: slurm.states(job) == ["COMPLETED"], "the job's end in the accounting")


def test_without_accounting_jobs_run_and_sacct_refuses(slurm_without_accounting: RealCluster, tmp_path: Path) -> None:
    """The variant for sites that keep no records."""
    slurm_without_accounting.sbatch(f"echo done > {tmp_path}/done")
    slurm_without_accounting.wait((tmp_path / "done").exists, "the job")
    with pytest.raises(CommandError, match="accounting storage is disabled"):
        slurm_without_accounting.run("sacct")


@pytest.mark.usefixtures("slurm")  # for what it skips
def test_nothing_outlives_the_process_that_started_a_cluster(tmp_path: Path) -> None:
    """Not even killed: daemons, jobs and the folder are gone with it."""
    folder = Path(f"/tmp/slurm-{os.getpid()}")
    code = f"""
import time
from pathlib import Path
from support import patience
from support.real_cluster import RealCluster
cluster = RealCluster(Path({str(folder)!r}), {free_ports(18175)}, accounting=False)
cluster.start()
cluster.sbatch("setsid sleep 6000 & sleep 6000")
cluster.wait(lambda: len(cluster.node_processes("n1")) >= 4, "the job")
print(*cluster.node_processes("n1"), *(holder.pid for holder in cluster._holders.values()), flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    assert len(pids) >= 10
    wait_for(lambda: not folder.exists() and not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))


def test_two_processes_that_ask_at_once_get_other_ports() -> None:
    """Before anybody listens on them; whoever ends gives them back."""
    code = "from support.real_cluster import free_ports; print(free_ports(28400), flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    words = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        assert free_ports(28400) != theirs
        other.communicate("\n")
    assert free_ports(28400) == theirs


def test_a_start_that_fails_leaves_nothing(slurm: RealCluster) -> None:
    """With its ports taken by another cluster, the error says which daemon and why, and there is no folder."""
    folder = Path(f"/tmp/slurm-{os.getpid()}")
    late = RealCluster(folder, slurm.base_port, accounting=False)
    with pytest.raises(RuntimeError, match=r"slurmctld does not come up(.|\n)*Address already in use"):
        late.start()
    assert not folder.exists()
    with pytest.raises(ValueError, match="too long"):
        RealCluster(Path("/tmp") / ("x" * FOLDER_LENGTH), slurm.base_port).start()
