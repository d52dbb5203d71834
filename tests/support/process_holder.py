"""Runs one daemon and holds on to every process that ever comes of it: `process_holder.py PARENT FOLDER COMMAND...`.

Slurm's processes leave their parents (a slurmstepd is not below its slurmd, and a task whose slurmstepd was killed is below
nothing), so neither process groups nor environments say what belongs to which node. A subreaper does: orphans below it
become its own children. One holder per daemon therefore is one virtual machine, which loses power when its holder says so.

- The holder ends when all below it have ended, with the daemon's exit code.
- SIGTERM is passed on to the daemon.
- SIGUSR1 kills all at once, as a power loss would, and ends the holder.
- SIGUSR2 kills the daemon alone and starts it again: what else came of it lives on.
- When process PARENT is gone, in whatever way, all is killed and FOLDER removed: an interrupted test run leaves nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 0.5
REMOVE_SECONDS = 300.0


def descendants(pid: int) -> list[int]:
    """Processes below `pid` that have not ended, parents before children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path per process would cost more than the look
        if name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                state, parent = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state not in {b"Z", b"X"}:
                    children.setdefault(int(parent), []).append(int(name))
    found = [pid]
    for known in found:
        found += children.get(known, ())
    return found[1:]


def program_of(pid: int) -> str:
    """The program of a process, empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


def title_of(pid: int) -> str:
    """The title of a process, empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def variable_of(pid: int, name: str) -> str:
    """A variable of a process's environment at its start, empty when it has none or has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if line.startswith(f"{name}=".encode()):
                return line.partition(b"=")[2].decode(errors="replace")
    return ""


def cpu_seconds(pid: int) -> float:
    """What a process has computed, 0 when it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def kill(pids: list[int], signum: int = signal.SIGKILL) -> None:
    """Signal processes, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def cut_power() -> None:
    """Kill all processes below this one. All are stopped first: none lives to see, or to report, another's end."""
    me = os.getpid()
    stopped: set[int] = set()
    while new := set(descendants(me)) - stopped:
        kill(sorted(new), signal.SIGSTOP)
        stopped |= new
    while left := descendants(me):
        kill(left)
        time.sleep(0.01)
    with suppress(ChildProcessError):  # a container's process 1 may be slow to take over the dead
        while True:
            os.waitpid(-1, 0)


def remove(folder: str) -> None:
    """Remove a folder into which other holders' processes may write for another moment."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while Path(folder).exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def hold(parent: int, folder: str, command: list[str]) -> int:
    """Run `command` until nothing of it is left; returns its exit code."""
    signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    daemon = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    code = 0
    while True:
        came = signal.sigtimedwait(signals, LOOK_SECONDS)
        if came is not None and came.si_signo == signal.SIGTERM:
            kill([daemon], signal.SIGTERM)
        if came is not None and came.si_signo == signal.SIGUSR1:
            cut_power()
            return 0
        if came is not None and came.si_signo == signal.SIGUSR2:
            kill([daemon])
            with suppress(ChildProcessError):  # it had ended by itself
                os.waitpid(daemon, 0)
            daemon = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
        if os.getppid() != parent:
            cut_power()
            remove(folder)
            return 0
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == daemon:
                    code = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            return abs(code)


if __name__ == "__main__":
    sys.exit(hold(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
