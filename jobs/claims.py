"""The proof that one worker owns one tar now: a small file, made whole or not at all, never a lock of the kernel's.

A claim stops nobody from being correct: the ledger is safe with two writers. It stops them from wasting time.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

__all__ = ["Claim", "held_by_other", "read_claim"]


class Claim(msgspec.Struct, frozen=True):
    """Who works on a tar."""

    attempt: str
    host: str
    pid: int
    started: str
    """What /proc says of when the process started: a process id alone may have been given to another since."""

    @classmethod
    def of_this_process(cls, attempt: str) -> Claim:
        """A claim for the calling process."""
        return cls(attempt, socket.gethostname(), os.getpid(), process_start(os.getpid()))


def process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty if it is gone (or where there is no /proc)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def read_claim(path: Path) -> Claim | None:
    """The claim, or None if nobody has one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Claim)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return Claim("", "", 0, "")  # not written by us: held by nobody


def held_by_other(holder: Claim, mine: Claim) -> bool:
    """Whether `holder` is another living process of this machine.

    A claim from another machine is taken over: whoever planned this tar for us knows that its task is gone, or is
    content with two workers on it.
    """
    if holder.host != mine.host or (holder.pid, holder.started) == (mine.pid, mine.started):
        return False
    if not Path("/proc/self/stat").exists():
        return _answers(holder.pid)
    return holder.started != "" and process_start(holder.pid) == holder.started


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
