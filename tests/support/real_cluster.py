"""A real Slurm of four virtual nodes on this machine, for tests: every daemon, job and file of it is confined to one folder.

The nodes have 16 CPUs and 4 GPUs each, on paper: jobs see SLURMD_NODENAME and CUDA_VISIBLE_DEVICES as on a real cluster, but
share this machine's host name, cores and disk. It needs root and Debian's packages (`PACKAGES`); it uses no network but
127.0.0.1, no cgroups and nothing in /etc, so that several run side by side, given different folders and ports.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from support import process_holder
from support.patience import wait_while_moving
from support.process_holder import cpu_seconds, descendants, kill, program_of, title_of, variable_of
from support.slurm_files import DATABASE, DATABASE_SERVER, MUNGE, NODES, write_folder, write_slurm_conf

PORTS = 15  # slurmctld, slurmdbd, unused ones, a slurmd per node from 11 on
PACKAGES = "slurmctld slurmd slurm-client slurmdbd munge mariadb-server-core mariadb-client-core"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "sacct", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "mariadb")
FOLDER_LENGTH = 60  # unix socket paths end at 108 bytes, and the longest of Slurm's takes 45 after the folder
COMMAND_SECONDS = 300.0
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # daemons live there, and not every root shell looks there

T = TypeVar("T")


class CommandError(RuntimeError):
    """A command of Slurm's refused; the text is its standard error."""


@dataclass(frozen=True)
class QueuedJob:
    """One job, or one element of an array, that Slurm has not finished with."""

    id: str
    """As users write it: 12, or 12_3 for an array's element."""
    raw_id: str
    """The number that this element has for itself; slurmd's files and processes carry it."""
    state: str
    """PENDING, RUNNING, COMPLETING..."""
    node: str
    """Where it runs; several as n[1-2]; empty while it is pending."""
    reason: str
    name: str


def missing_prerequisites() -> list[str]:
    """What this machine lacks to run a RealCluster; empty if nothing."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    return ["root"] * (os.geteuid() != 0) + [program for program in PROGRAMS if not shutil.which(program, path=path)]


_LOCKED: set[int] = set()
"""Base ports whose names this process has locked, until its end."""


def _lock_ports(base: int) -> None:
    """Raises OSError where another process has them."""
    if base in _LOCKED:
        return
    lock = os.open(Path(tempfile.gettempdir(), f"slurm-ports-{base}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    _LOCKED.add(base)


def free_ports(first: int) -> int:
    """The first free base port, from `first` on in steps of 1000: other test runs may share this machine.

    They may ask at the same moment, before any of them listens: each run locks the name of its ports until it ends.
    """
    for base in range(first, first + 10_000, 1000):
        with suppress(OSError):
            _lock_ports(base)
            for port in range(base, base + PORTS):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("", port))
            return base
    raise RuntimeError(f"no {PORTS} free ports at {first} nor at any 1000 after it")


class RealCluster:
    """A Slurm cluster. Use `start` and `stop`, or `with`; commands find it by `SLURM_CONF` in the environment (`conf`).

    A started cluster belongs to the process that started it: when that one ends, however it does, the cluster and its folder
    go with it.
    """

    def __init__(self, folder: Path, base_port: int, *, accounting: bool = True, max_array_size: int = 1001) -> None:
        """`folder` is made by start and removed by stop; its path must be short. `base_port` is the first of PORTS ports."""
        self.folder = folder
        self.conf = folder / "etc" / "slurm.conf"
        self.accounting = accounting
        self.base_port = base_port
        self._settings: dict[str, object] = {"MaxArraySize": max_array_size}
        self._changed: dict[str, object] = {}
        self._limits: set[str] = set()
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._since = time.strftime("%Y-%m-%dT%H:%M:%S")

    def __enter__(self) -> RealCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- the whole

    def start(self) -> None:
        """Start every daemon and wait until all nodes are idle; takes about 3 s. A failure leaves nothing behind."""
        if missing := missing_prerequisites():
            raise RuntimeError(f"a real Slurm needs {', '.join(missing)}; as root: apt-get install {PACKAGES}")
        if len(os.fsencode(self.folder)) > FOLDER_LENGTH:
            raise ValueError(f"{self.folder}: over {FOLDER_LENGTH} bytes, too long for the sockets in it")
        self.folder.mkdir(mode=0o755)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        write_folder(self.folder, self.base_port)
        self._write_conf()
        self._spawn("munged", *MUNGE.format(self.folder / "munge").split())
        self._wait_up("munged", (self.folder / "munge" / "sock").exists)
        if self.accounting:
            database = DATABASE.format(self.folder / "db")
            self.run("mariadb-install-db", *database.split(), "--auth-root-authentication-method=normal", "--skip-test-db")
            self._spawn("mariadbd", *(database + DATABASE_SERVER.format(self.folder / "db")).split())
            self._wait_up(
                "mariadbd", self._answers("mariadb", "--no-defaults", "-S", self.folder / "db/sock", "-e", "select 1")
            )
            self._spawn("slurmdbd", "-D")
            self._wait_up("slurmdbd", self._answers("sacctmgr", "-n", "show", "cluster"))
            self.run("sacctmgr", "-i", "add", "cluster", "lab")
        self.start_controller()
        for node in NODES:
            self._spawn(node, "-D", "-N", node, program="slurmd")
        for node in NODES:
            self._wait_up(node, partial(lambda node: self.node_states()[node] == "idle", node))

    def stop(self) -> None:
        """Kill all that runs and remove the folder. Nothing is worth a proper shutdown: the data go too."""
        for holder in self._holders.values():
            if holder.poll() is None:
                holder.send_signal(signal.SIGUSR1)
        for holder in self._holders.values():
            holder.wait()
        self._holders.clear()
        process_holder.remove(str(self.folder))

    def reset(self) -> None:
        """As after the start: no job, no process of one, every node idle, no limits, the usual settings."""
        if self._changed:
            self.configure()
        if not self._runs("slurmctld"):
            self.start_controller()
        self.clear_limits()

        def is_fresh() -> bool:
            if self._is_fresh():
                return True
            self.run("scancel", "--user=root", "--quiet", check=False)
            for node in NODES:
                # The tasks, and only then, by itself, the slurmstepd: it lives to tell the controller of the end.
                kill([pid for pid in self.node_processes(node) if program_of(pid) not in {"slurmd", "slurmstepd"}])
                if not self._slurmd_runs(node):
                    self.kill_node(node)
                    self.boot_node(node)
                elif self.node_states()[node] not in {"idle", "comp", "alloc", "mix"}:
                    self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
            return False

        self.wait(is_fresh, "a cluster at rest")
        self._since = time.strftime("%Y-%m-%dT%H:%M:%S")

    def _is_fresh(self) -> bool:
        alone = all(len(self.node_processes(node)) == 1 and self._slurmd_runs(node) for node in NODES)
        return alone and not self.squeue() and set(self.node_states().values()) == {"idle"}

    # ---- asking

    @property
    def env(self) -> dict[str, str]:
        """The environment of this process, pointed at this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SLURMD_", "SBATCH_"))}
        kept["PATH"] = f"{kept.get('PATH', os.defpath)}:{SBIN}"
        return {**kept, "SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": str(self.folder / "db" / "sock")}

    def run(self, *argv: object, check: bool = True) -> str:
        """Standard output of a command on this cluster. CommandError where it fails, unless `check` is False."""
        words = [str(word) for word in argv]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        if check and done.returncode:
            raise CommandError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def sbatch(self, script: str, *options: object) -> str:
        """Submit lines of shell; returns the job's id. CommandError where Slurm refuses."""
        return self.run("sbatch", "--parsable", *_defaults(self.folder), *options, "--wrap", script).partition(";")[0]

    def squeue(self, job: str | None = None) -> list[QueuedJob]:
        """What is queued or runs, by the controller's own word: of all jobs, or of one with its array's elements."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i|%A|%T|%N|%r|%j").splitlines()
        rows = [QueuedJob(*line.split("|", 5)) for line in lines]
        return [row for row in rows if job is None or row.id == job or row.id.startswith(f"{job}_")]

    def state(self, job: str) -> str:
        """The state of one job in the queue, empty when it has left it. Trigger on this: sacct lags behind by seconds."""
        return next((row.state for row in self.squeue(job)), "")

    def states(self, job: str) -> list[str]:
        """The states of every run of a job that the accounting knows, oldest first: NODE_FAIL and then COMPLETED, say."""
        return self.run("sacct", "-n", "-P", "-D", "-X", "-j", job, "-o", "State").split("\n")

    def node_states(self) -> dict[str, str]:
        """Node -> idle, mix, alloc, comp, down...; an asterisk says that it does not answer."""
        pairs = (line.split() for line in self.run("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines())
        return dict(pairs)

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` holds; returns what it gave. TimeoutError, with `what` was awaited, where for long no job,
        no node and no process of a task has changed, and nobody has computed.
        """
        return wait_while_moving(condition, what, states=self._states, computed=self._computed)

    def report(self) -> dict[str, str]:
        """Title -> text: what helps to understand a failed test. Never raises."""
        texts = {f"{name}.log": self._log_since(name) for name in ("slurmctld", *(f"slurmd-{node}" for node in NODES))}
        columns = "JobID%-12,JobName%-12,State%-20,ExitCode,NodeList,Submit,Start,End"
        commands = ["squeue --array", "sinfo --Node --long"] * self._runs("slurmctld")
        commands += [f"sacct -D -X -S {self._since} -o {columns}"] * self.accounting
        for command in commands:
            try:
                texts[command.partition(" ")[0]] = self.run(*command.split())
            except (CommandError, OSError, subprocess.TimeoutExpired) as error:
                texts[command.partition(" ")[0]] = str(error)
        return texts

    # ---- trouble

    def kill_node(self, node: str) -> None:
        """Power loss of a node: all that runs there is gone at once, orphans included. The controller is told, if it is up;
        by itself it would take minutes to see it.
        """
        self._cut(node)
        for left in [*(self.folder / "spool" / node).glob("job*"), *(self.folder / "spool" / node).glob(f"{node}_*.*")]:
            # Slurm 22.05 holds a requeued job back that finds its own folder there ("File exists").
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if self._runs("slurmctld"):
            self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=power")

    def boot_node(self, node: str) -> None:
        """Bring a killed node back, and wait until it takes jobs. Jobs that were requeued start some 6 s later."""
        self._spawn(node, "-D", "-N", node, program="slurmd")

        def takes_jobs() -> bool:
            if self.node_states()[node] in {"idle", "mix", "alloc", "comp"}:
                return True
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
            return False

        self._wait_up(node, takes_jobs)

    def node_processes(self, node: str) -> list[int]:
        """Every live process of a node: its slurmd, the slurmstepds, the tasks, and orphans of all that."""
        return descendants(self._holders[node].pid) if self._runs(node) else []

    def job_processes(self, job: str) -> list[int]:
        """The live processes of one job (or one array element) on all nodes: orphans included, its slurmstepds not. An
        element that has left the queue is known by its `raw_id` only.
        """
        raw = next((row.raw_id for row in self.squeue(job) if row.id == job), job)
        return [pid for pid in self._task_processes() if variable_of(pid, "SLURM_JOB_ID") == raw]

    def kill_stepd(self, job: str) -> None:
        """Kill the slurmstepds of one job (or one array element): its processes go on as orphans unknown to Slurm.

        For minutes Slurm will believe that the job runs. `scontrol requeue` starts it again beside the orphan, in 6 s.
        """
        raw = next((row.raw_id for row in self.squeue(job) if row.id == job), job)
        title = f"slurmstepd: [{raw}."
        below = [pid for node in NODES for pid in self.node_processes(node)]
        stepds = [pid for pid in below if program_of(pid) == "slurmstepd" and title_of(pid).startswith(title)]
        if not stepds:
            raise RuntimeError(f"job {job} has no slurmstepd")
        kill(stepds, signal.SIGSTOP)
        kill(stepds)
        self.wait(lambda: not {*stepds} & {pid for node in NODES for pid in self.node_processes(node)}, "its end")

    def stop_controller(self) -> None:
        """Shut slurmctld down: jobs run on, and commands fail after trying for a while."""
        self._holders["slurmctld"].terminate()
        self._holders["slurmctld"].wait()

    def start_controller(self) -> None:
        """Start slurmctld, with the jobs it knew."""
        self._spawn("slurmctld", "-D")
        self._wait_up("slurmctld", self._answers("scontrol", "ping"))
        if any(self._runs(node) for node in NODES):  # they register now; by themselves they would within 4 s
            self._wait_up("slurmctld", self._answers("scontrol", "reconfigure"))

    def restart_daemon(self, name: str) -> None:
        """Kill a node's slurmd, or "slurmdbd", and start it again at once: jobs run on."""
        before = self._daemon(name)
        self._holders[name].send_signal(signal.SIGUSR2)
        answers = self._answers("sacctmgr", "-n", "show", "cluster")
        self._wait_up(name, lambda: self._daemon(name) not in (None, before) and (name in NODES or answers()))

    def configure(self, **settings: object) -> None:
        """Other lines of slurm.conf, such as MaxArraySize=11, until `reset` or the next call; restarts the controller."""
        self._changed = settings
        self._write_conf()
        if self._runs("slurmctld"):
            self.stop_controller()
        self.start_controller()

    def set_limit(self, **limits: int) -> None:
        """Limits of the user, by sacctmgr's names, such as MaxSubmitJobs=4. At once, and until clear_limits or reset."""
        self._limits |= set(limits)
        self.run("sacctmgr", "-i", "modify", "user", "root", "set", *(f"{name}={value}" for name, value in limits.items()))

    def clear_limits(self) -> None:
        """Take back what set_limit has set."""
        if self._limits:
            self.set_limit(**dict.fromkeys(self._limits, -1))
            self._limits.clear()

    # ---- within

    def _write_conf(self) -> None:
        settings = {**self._settings, **self._changed}
        write_slurm_conf(self.folder, self.base_port, accounting=self.accounting, settings=settings)

    def _spawn(self, name: str, *arguments: str, program: str | None = None) -> None:
        """Start a daemon, held; `name` is how we call it. In a session of its own: ^C at the terminal is not for it."""
        if self._runs(name):
            raise RuntimeError(f"{name} runs already")
        holder = [sys.executable, "-I", "-S", process_holder.__file__, str(os.getpid()), str(self.folder)]
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self._holders[name] = subprocess.Popen(
                [*holder, program or name, *arguments],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _cut(self, name: str) -> None:
        if self._runs(name):
            self._holders[name].send_signal(signal.SIGUSR1)
        self._holders[name].wait()

    def _runs(self, name: str) -> bool:
        return name in self._holders and self._holders[name].poll() is None

    def _slurmd_runs(self, node: str) -> bool:
        return self._daemon(node) is not None

    def _daemon(self, name: str) -> int | None:
        """The process of a node's slurmd, or of another daemon."""
        program = "slurmd" if name in NODES else name
        below = descendants(self._holders[name].pid) if self._runs(name) else []
        return next((pid for pid in below if program_of(pid) == program), None)

    def _states(self) -> object:
        """Of all jobs, nodes and tasks."""
        found: list[object] = [self._task_processes()]
        if self._runs("slurmctld"):
            with suppress(CommandError):
                found += [self.squeue(), self.node_states()]
        return found

    def _computed(self) -> float:
        """By tasks and daemons: on a busy machine the latter take long to come up."""
        below = {pid for holder in self._holders.values() if holder.poll() is None for pid in descendants(holder.pid)}
        return sum(map(cpu_seconds, below))

    def _task_processes(self) -> list[int]:
        below = [pid for node in NODES for pid in self.node_processes(node)]
        return [pid for pid in below if program_of(pid) not in {"slurmd", "slurmstepd"}]

    def _answers(self, *argv: object) -> Callable[[], bool]:
        def asked() -> bool:
            try:
                self.run(*argv)
            except CommandError:
                return False
            return True

        return asked

    def _wait_up(self, name: str, up: Callable[[], bool]) -> None:
        def up_or_ended() -> bool:
            return up() or not self._runs(name)

        with suppress(TimeoutError):
            self.wait(up_or_ended, name)
            if self._runs(name):
                return
        log = f"slurmd-{name}" if name in NODES else name
        raise RuntimeError(
            f"{name} does not come up; the end of its log:\n{self._log_end(log, 30)}\n{self._log_end(name, 30, 'out')}"
        )

    def _log_since(self, name: str) -> str:
        """A log since the last reset, without what every start of anything says about PMIx."""
        lines = self._log_end(name, 200).splitlines()
        return "\n".join(line for line in lines if line[1:] >= self._since and not re.search("pmix|MPI:", line))

    def _log_end(self, name: str, lines: int, suffix: str = "log") -> str:
        path = self.folder / "log" / f"{name}.{suffix}"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def _defaults(folder: Path) -> list[str]:
    """Options of sbatch that a test may override: where output goes that nobody asked for."""
    return [f"--output={folder}/log/job-%j.out", f"--chdir={folder}"]
