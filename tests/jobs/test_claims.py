"""jobs/claims.py: who holds a tar, and whether that process lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from jobs.claims import Claim, held_by_other, process_start, read_claim

MINE = Claim.of_this_process("mine")


def test_a_living_process_of_this_machine_holds_its_claim() -> None:
    """Another worker that is alive is left alone."""
    parent = os.getppid()
    assert held_by_other(Claim("other", MINE.host, parent, process_start(parent)), MINE)


def test_a_dead_process_holds_nothing() -> None:
    """A claim whose process has ended is taken over, and so is one whose number another process has by now."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_start(child.pid)
    child.wait()
    assert not held_by_other(Claim("other", MINE.host, child.pid, started), MINE)
    assert not held_by_other(Claim("other", MINE.host, os.getppid(), "1"), MINE)


def test_a_zombie_process_holds_nothing() -> None:
    """A process that has ended and that nobody has waited for is dead."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = process_start(child.pid)
    child.kill()
    while process_start(child.pid):
        pass
    assert not held_by_other(Claim("other", MINE.host, child.pid, started), MINE)
    child.wait()


def test_another_machines_claim_is_taken_over() -> None:
    """Nobody here can ask that machine; whoever planned the tar for us could."""
    assert not held_by_other(Claim("other", "elsewhere", os.getppid(), process_start(os.getppid())), MINE)


def test_our_own_claim_is_ours() -> None:
    """A process that claims twice does not wait for itself."""
    assert not held_by_other(msgspec.structs.replace(MINE, attempt="before"), MINE)


def test_a_torn_claim_is_nobodys(tmp_path: Path) -> None:
    """A file that is not a claim does not block a tar for ever."""
    path = tmp_path / "a.json"
    assert read_claim(path) is None
    path.write_bytes(b"{")
    claim = read_claim(path)
    assert claim is not None
    assert not held_by_other(claim, MINE)
