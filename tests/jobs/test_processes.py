"""jobs/processes.py: what the kernel says of a process, and nothing where it says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.runs import wait_for

from jobs.processes import Process, look_at


def test_stopped() -> None:
    """A process that somebody has stopped is told from one that works or waits."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert look_at(child.pid, effort=False) == Process(stopped=False)
        child.send_signal(signal.SIGSTOP)
        wait_for(lambda: look_at(child.pid, effort=False).stopped)
        child.send_signal(signal.SIGCONT)
        wait_for(lambda: not look_at(child.pid, effort=False).stopped)
    finally:
        child.kill()
        child.communicate()


def test_effort(tmp_path: Path) -> None:
    """Reading and computing are seen to go on."""
    file = tmp_path / "weights"
    file.write_bytes(bytes(1 << 20))
    before = look_at(os.getpid(), effort=True).effort
    file.read_bytes()
    while (after := look_at(os.getpid(), effort=True).effort) is not None and before is not None:
        if after.cpu_seconds > before.cpu_seconds:
            break
    assert before is not None
    assert after is not None
    assert after.read_bytes - before.read_bytes >= 1 << 20


def test_name_that_looks_like_fields(tmp_path: Path) -> None:
    """The name of a program may hold blanks and brackets."""
    (tmp_path / "7").mkdir()
    fields = "T 1 1 1 0 -1 4194304 100 0 33 0 250 50 0 0 20 0 1 0 5 6 7"
    (tmp_path / "7" / "stat").write_text(f"7 (a) R (b)) {fields}")
    (tmp_path / "7" / "io").write_text("rchar: 10\nwchar: 3\nread_bytes: 4096\n")
    process = look_at(7, effort=True, proc=tmp_path)
    assert process.stopped
    assert process.effort is not None
    assert (process.effort.read_bytes, process.effort.faults) == (4106, 33)
    assert process.effort.cpu_seconds == 300 / os.sysconf("SC_CLK_TCK")


def test_gone(tmp_path: Path) -> None:
    """A process that has ended is neither stopped nor at work."""
    assert look_at(7, effort=True, proc=tmp_path) == Process()
