"""Read a process's state from the kernel: whether it is stopped, and how much it has done so far."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.watchdog import Effort

__all__ = ["Process", "look_at"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one moment."""

    stopped: bool = False
    """Whether SIGSTOP or a debugger has stopped it."""
    effort: Effort | None = None


def look_at(pid: int, *, effort: bool, proc: Path = Path("/proc")) -> Process:
    """Read a process's state, and its `effort` if wanted. Unreadable values keep their defaults. See proc_pid_stat(5)."""
    try:
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return Process()
    if not effort:
        return Process(fields[0] in "Tt")
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_seconds = (int(fields[11]) + int(fields[12])) / ticks
    return Process(fields[0] in "Tt", Effort(cpu_seconds, _read_bytes(proc / str(pid) / "io"), int(fields[9])))


def _read_bytes(path: Path) -> int:
    """Bytes read by system calls plus bytes read from storage; see proc_pid_io(5)."""
    with suppress(OSError, ValueError):
        counts = dict(line.split(": ") for line in path.read_text(encoding="ascii").splitlines())
        return int(counts.get("rchar", 0)) + int(counts.get("read_bytes", 0))
    return 0
