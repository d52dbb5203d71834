"""A lock in a shared folder, for commands that should not interleave. It saves work; correctness never depends on it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from jobs.claims import Claim, held_by_other, read_claim, seconds_silent
from jobs.fileops import FileOps, write_atomically, write_if_absent

__all__ = ["LockHeldError", "locked"]

PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 0.02


class LockHeldError(Exception):
    """Another process holds the lock; the message says which."""


@contextmanager
def locked(path: Path, *, take_over_after: float = PATIENCE_SECONDS, wait: bool = True) -> Iterator[None]:
    """Hold the lock within this block.

    If its holder was a process of this machine that is dead, the lock is taken over at once, and any other after it has not
    changed for `take_over_after` seconds by our own clock. With `wait=False` a held lock raises LockHeldError at once,
    unless its file is older than `take_over_after` by the file system's clock.
    """
    ops = FileOps()
    mine = Claim.of_this_process(uuid.uuid4().hex)
    seen, patience = None, 0.0
    while not write_if_absent(ops, path, msgspec.json.encode(mine)):
        holder = read_claim(path)
        if holder is None:
            continue
        if holder != seen:
            seen, patience = holder, time.monotonic() + take_over_after
        gone = not held_by_other(holder, mine, silence=lambda: 0.0)
        if gone or time.monotonic() > patience or (not wait and seconds_silent(ops, path) > take_over_after):
            write_atomically(ops, path, msgspec.json.encode(mine))
            break
        if not wait:
            raise LockHeldError(f"process {holder.pid} on {holder.host}")
        time.sleep(PAUSE_SECONDS)
    try:
        yield
    finally:
        if read_claim(path) == mine:
            ops.unlink(path)
