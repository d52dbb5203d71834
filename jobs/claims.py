"""Claims: which worker owns a tar now. A claim is a small file, created atomically; kernel locks are not used.

Correctness does not depend on claims, because the ledger is safe with two writers; they only avoid duplicate work. The
holder touches its claim every SIGN_OF_LIFE_SECONDS. A worker on another host, which can see neither the process nor perhaps
Slurm, takes the claim over after STALE_SECONDS of silence.
"""

from __future__ import annotations

import functools
import math
import os
import socket
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from audio_tokenizers.errors import ClaimLostError
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically, write_if_absent

__all__ = [
    "STALE_SECONDS",
    "Claim",
    "Heartbeat",
    "Hold",
    "held_by_other",
    "nobody_knows",
    "read_claim",
    "read_claims",
    "seconds_silent",
]

SIGN_OF_LIFE_SECONDS = 60.0
STALE_SECONDS = 600.0
"""Long compared with what network file systems hide: attribute caches of a minute, clocks that differ by seconds."""
CLAIM_SUFFIX = ".json"


class Claim(msgspec.Struct, frozen=True):
    """Which process works on a tar."""

    attempt: str
    host: str
    pid: int
    started: str
    """The process's start time by /proc; a process id alone may have been reused."""
    task: str = ""
    """The array task, as SUBMISSION/SLOT; empty for a worker that was started by hand."""
    pid_namespace: str = ""
    """The namespace of `pid` by /proc; a container's differs from its host's."""

    @classmethod
    def of_this_process(cls, attempt: str, task: str = "") -> Claim:
        """A claim for the calling process."""
        host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        return cls(attempt, host, os.getpid(), process_start(os.getpid()), task, _pid_namespace())


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty if it is gone (or where there is no /proc)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


NOBODY = Claim("", "", 0, "")
"""Stands for a file that is not a claim."""


def read_claim(path: Path) -> Claim | None:
    """The claim, or None if there is none."""
    try:
        return decode_json(path.read_bytes(), Claim)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return NOBODY


def read_claims(folder: Path) -> dict[str, Claim]:
    """Name of the tar -> its claim, for every claim below `folder`, which need not exist. Names may hold folders."""
    found = {}
    for path in _claim_files(str(folder)):
        claim = read_claim(Path(path))
        if claim is not None and claim != NOBODY:
            found[path[len(str(folder)) + 1 : -len(CLAIM_SUFFIX)]] = claim
    return found


def _claim_files(folder: str) -> Iterator[str]:
    """Paths of claims below `folder`, without temporary files."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _claim_files(entry.path)
            elif entry.name.endswith(CLAIM_SUFFIX):
                yield entry.path


def nobody_knows(_task: str) -> bool:
    """Knows of no task that it has ended."""
    return False


def held_by_other(
    holder: Claim,
    mine: Claim,
    *,
    gone: Callable[[str], bool] = nobody_knows,
    silence: Callable[[], float] = lambda: 0.0,
) -> bool:
    """Whether `mine` must respect `holder`'s claim: it is another process and not known to be gone.

    `gone` says whether a task is known to have ended; False also means unknown. `silence` returns the seconds since the
    holder's last sign of life; it is called only if nothing better is known.
    """
    if holder == NOBODY:
        return False
    if (holder.host, holder.pid_namespace) == (mine.host, mine.pid_namespace):
        return (holder.pid, holder.started) != (mine.pid, mine.started) and _lives(holder)
    if holder.task and gone(holder.task):
        return False
    return silence() <= STALE_SECONDS


def _lives(holder: Claim) -> bool:
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


def seconds_silent(ops: FileOps, path: Path) -> float:
    """Seconds since a claim was last touched; infinite if it is gone.

    By the clock of the file system, which a file created now shows. This host's clock is not used.
    """
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    fd = ops.create(probe)
    try:
        ops.write(fd, b"?")  # where a server keeps time, it is the write that makes it look
        now = os.fstat(fd).st_mtime
    finally:
        os.close(fd)
        ops.unlink(probe)
    try:
        with path.open("rb") as claim:  # opened: a network file system asks its server then, and not its cache
            return max(0.0, now - os.fstat(claim.fileno()).st_mtime)
    except FileNotFoundError:
        return math.inf


class Heartbeat:
    """Touches a claim every SIGN_OF_LIFE_SECONDS from its own thread, until `stop` or until this object is garbage."""

    def __init__(self, path: Path, mine: Claim, *, seconds: float = SIGN_OF_LIFE_SECONDS) -> None:
        ended = threading.Event()
        self.stop = ended.set
        """End the thread without waiting for it: it may hang in a dead file system."""
        weakref.finalize(self, ended.set)
        threading.Thread(target=keep_fresh, args=(path, mine, ended.wait, seconds), name="heartbeat", daemon=True).start()


def keep_fresh(path: Path, mine: Claim, ended: Callable[[float], bool], seconds: float) -> None:
    """Touch a claim every `seconds` until `ended`, which does the waiting, or until the claim is another's.

    A failed touch counts as a missed one: the next may succeed.
    """
    while not ended(seconds):
        with suppress(OSError):
            if read_claim(path) != mine:
                return
            os.utime(path)


class Hold:
    """A claim that this process holds. Begin with `take`, end with `give_back` or `let_go`."""

    def __init__(self, ops: FileOps, path: Path, mine: Claim, overtaken: Claim | None) -> None:
        self.mine = mine
        self.overtaken = overtaken
        """The previous claim, if it was taken over rather than given back."""
        self._ops = ops
        self._path = path
        self._heartbeat = Heartbeat(path, mine)

    @classmethod
    def take(cls, ops: FileOps, path: Path, mine: Claim, *, name: str, gone: Callable[[str], bool]) -> Hold:
        """Create the claim or take it over, atomically. Raises ClaimLostError if another worker holds it."""
        while not write_if_absent(ops, path, msgspec.json.encode(mine)):
            holder = read_claim(path)
            if holder is None:  # given back a moment ago
                continue
            silence = functools.partial(seconds_silent, ops, path)
            if not held_by_other(holder, mine, gone=gone, silence=silence):
                write_atomically(ops, path, msgspec.json.encode(mine))
                return cls(ops, path, mine, holder)
            if (seconds := silence()) < math.inf:
                raise ClaimLostError(_describe_holder(name, holder, seconds, path))
        return cls(ops, path, mine, None)

    def give_back(self) -> None:
        """Remove the claim."""
        self.let_go()
        self._ops.unlink(self._path)

    def let_go(self) -> None:
        """Stop the signs of life and leave the file: it belongs to another worker, or cannot be removed."""
        self._heartbeat.stop()


def _describe_holder(name: str, holder: Claim, silence: float, path: Path) -> str:
    task = f" (task {holder.task})" if holder.task else ""
    return (
        f"{name}: process {holder.pid} on {holder.host}{task} is working on it, its last sign of life came {silence:.0f} s "
        f"ago: left alone; if that process is known to be gone, delete {path}"
    )
