"""tools/doctoring/bounded.py: children that hang, fail, or are not there."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest
from support.runs import wait_for

from tools.doctoring.bounded import Answer, answers, run_bounded


@pytest.mark.slow
def test_a_child_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """What it has said so far is kept, and neither it nor its own child lives on."""
    pids, begun = tmp_path / "pids", tmp_path / "begun"
    ended = run_bounded(
        ["sh", "-c", f"sleep 600 & echo $$ $! > {pids}; echo begun; : > {begun}; wait"], 600, pointless=begun.exists
    )
    assert ended.late
    assert ended.out == "begun\n"
    for pid in pids.read_text().split():
        wait_for(partial(lambda pid: not Path(f"/proc/{pid}/exe").exists(), pid))


@pytest.mark.slow
def test_a_child_that_does_not_hear_sigterm_is_killed(tmp_path: Path) -> None:
    """As one that hangs in a file system: nobody waits for it."""
    begun = tmp_path / "begun"
    loop = f"trap '' TERM; echo $$; : > {begun}; while :; do sleep 1; done"
    ended = run_bounded(["sh", "-c", loop], 600, pointless=begun.exists)
    assert ended.late
    wait_for(lambda: not Path(f"/proc/{ended.out.strip()}/exe").exists())


def test_how_a_child_ends() -> None:
    """Its code, both streams, and its last words; a program that is missing is told apart from one that hangs."""
    ended = run_bounded(["sh", "-c", "cat; echo first >&2; echo last >&2; exit 3"], 60, text="in")
    assert (ended.code, ended.out, ended.words, ended.late) == (3, "in", "last", False)
    missing = run_bounded(["no-such-program"], 60)
    assert missing.missing
    assert not missing.late
    assert run_bounded(["env"], 60, environment={"A": "b"}).out == "A=b\n"


def test_a_child_ends_when_its_time_is_up() -> None:
    """And its words say so."""
    ended = run_bounded(["sleep", "600"], 0.2)
    assert ended.late
    assert ended.words == "no answer in 0 s"


def test_answers_of_a_probe_that_hangs_in_the_middle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What it answered before is there; lines of libraries are passed over; nothing reaches the terminal."""
    begun = tmp_path / "begun"
    code = f"""
import time
from pathlib import Path
print('a library says hello')
print('{{"check":"one","facts":{{"x":1}}}}', flush=True)
Path({str(begun)!r}).touch()
time.sleep(600)
"""
    found, ended = answers([sys.executable, "-c", code], 600, environment=dict(os.environ), pointless=begun.exists)
    assert [answer.check for answer in found] == ["one"]
    assert bytes(found[0].facts) == b'{"x":1}'
    assert isinstance(found[0], Answer)
    assert ended.late
    assert capfd.readouterr() == ("", "")
