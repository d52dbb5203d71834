"""jobs/claims.py: who holds a tar, whether that process lives, and what is known of it from afar."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.runs import wait_for

from audio_tokenizers.errors import ClaimLostError
from jobs.claims import (
    STALE_SECONDS,
    Claim,
    Heartbeat,
    Hold,
    held_by_other,
    keep_fresh,
    nobody_knows,
    process_start,
    read_claim,
    read_claims,
    seconds_silent,
)
from jobs.fileops import FileOps

MINE = Claim.of_this_process("mine")


def claim_of(pid: int, started: str, **changes: str) -> Claim:
    """A claim of another process of this machine, or, with `changes`, of elsewhere."""
    return msgspec.structs.replace(MINE, attempt="other", pid=pid, started=started, **changes)


def parents(**changes: str) -> Claim:
    """A claim of a process that certainly lives."""
    return claim_of(os.getppid(), process_start(os.getppid()), **changes)


def write(path: Path, claim: Claim, silent_for: float = 0.0) -> None:
    """A claim whose holder gave its last sign of life `silent_for` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(claim))
    then = path.stat().st_mtime - silent_for
    os.utime(path, (then, then))


def take(path: Path, **settings: Any) -> Hold:
    return Hold.take(FileOps(), path, MINE, name="a", **{"gone": nobody_knows, **settings})


def test_a_living_process_of_this_machine_holds_its_claim() -> None:
    """Another worker that is alive is left alone, however silent it is and whatever is believed of its task."""
    assert held_by_other(parents(task="1/0"), MINE, gone=lambda _: True, silence=lambda: 2 * STALE_SECONDS)


def test_a_dead_process_holds_nothing() -> None:
    """A claim whose process has ended is taken over, and so is one whose number another process has by now."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_start(child.pid)
    child.wait()
    assert not held_by_other(claim_of(child.pid, started), MINE)
    assert not held_by_other(claim_of(os.getppid(), "1"), MINE)


def test_a_zombie_process_holds_nothing() -> None:
    """A process that has ended and that nobody has waited for is dead."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started = process_start(child.pid)
    child.kill()
    while process_start(child.pid):
        pass
    assert not held_by_other(claim_of(child.pid, started), MINE)
    child.wait()


@pytest.mark.parametrize("place", [{"host": "elsewhere"}, {"pid_namespace": "pid:[1]"}])
def test_from_elsewhere_what_counts_is_the_task_and_then_the_last_sign_of_life(place: dict[str, str]) -> None:
    """A process of another host or container cannot be asked: that its task has ended frees its tar, and long silence does.

    Not knowing is not the same as gone, and a worker that a person started has no task to ask for.
    """
    asked: list[str] = []

    def gone(task: str) -> bool:
        asked.append(task)
        return task == "0001/7"

    dead = claim_of(1, "1", **place)
    assert held_by_other(dead, MINE)
    assert held_by_other(dead, MINE, gone=gone, silence=lambda: STALE_SECONDS)
    assert asked == []
    assert not held_by_other(dead, MINE, silence=lambda: STALE_SECONDS + 1)
    assert held_by_other(msgspec.structs.replace(dead, task="0001/8"), MINE, gone=gone)
    assert not held_by_other(msgspec.structs.replace(dead, task="0001/7"), MINE, gone=gone)
    assert asked == ["0001/8", "0001/7"]


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
    take(path).give_back()


def test_a_claim_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Claims that know nothing of tasks and containers are those of somebody elsewhere: held until they are silent."""
    path = tmp_path / "a.json"
    path.write_bytes(b'{"attempt":"a","host":"h","pid":5,"started":"6"}')
    claim = read_claim(path)
    assert claim == Claim("a", "h", 5, "6", task="", pid_namespace="")
    assert held_by_other(claim, MINE)


def test_a_held_claim_is_refused_with_what_is_known_of_its_holder(tmp_path: Path) -> None:
    """The message says who and where, how long ago it gave a sign of life, and what to do if it is known to be gone."""
    path = tmp_path / "claims" / "a.json"
    write(path, parents(host="node7", task="0003/12"), silent_for=120)
    with pytest.raises(ClaimLostError) as refused:
        take(path)
    for words in (f"process {os.getppid()} on node7 (task 0003/12)", "came 12", "s ago", f"delete {path}"):
        assert words in str(refused.value)
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_silent_claim_is_taken_over_in_one_step(tmp_path: Path) -> None:
    """The claim is replaced, never missing; who had it before is remembered."""
    path = tmp_path / "a.json"
    dead = parents(host="node7")
    write(path, dead, silent_for=STALE_SECONDS + 60)
    hold = take(path)
    assert (hold.overtaken, read_claim(path)) == (dead, MINE)
    hold.give_back()
    assert list(tmp_path.iterdir()) == []
    assert take(path).overtaken is None


def test_a_claim_given_back_meanwhile_is_ours(tmp_path: Path) -> None:
    """Should its holder end between our looks at it, nobody is told that it is held."""
    path = tmp_path / "a.json"
    write(path, parents())

    class Ending(FileOps):
        def create(self, made: Path) -> int:
            if sorted(p.name for p in tmp_path.iterdir()) == ["a.json"] and attempts.pop():
                path.unlink()
            return super().create(made)

    attempts = [True, False]
    hold = Hold.take(Ending(), path, MINE, name="a", gone=nobody_knows)
    assert read_claim(path) == MINE
    hold.give_back()


def test_silence_is_told_by_the_file_systems_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this host may be wrong by hours: it is not asked. Nothing is left behind; no claim is silent for ever."""
    path = tmp_path / "a.json"
    write(path, MINE, silent_for=100)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 100 <= seconds_silent(FileOps(), path) < 110
    write(path, MINE, silent_for=-100)
    assert seconds_silent(FileOps(), path) == 0
    path.unlink()
    assert seconds_silent(FileOps(), path) == float("inf")
    assert list(tmp_path.iterdir()) == []


def test_the_holder_touches_its_claim_until_it_ends(tmp_path: Path) -> None:
    """Each interval ends with a touch, a failed one included, and the last wait is the one in which the hold ends."""
    path = tmp_path / "a.json"
    write(path, MINE, silent_for=1000)
    waited: list[float] = []

    def ended(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 2:
            assert seconds_silent(FileOps(), path) < 500
            path.rename(path.with_name("b.json"))
            path.mkdir()  # a touch that fails: this is no file
        if len(waited) == 3:
            path.rmdir()
            path.with_name("b.json").rename(path)
            write(path, MINE, silent_for=1000)
        return len(waited) == 5

    keep_fresh(path, MINE, ended, 60.0)
    assert waited == [60.0] * 5
    assert seconds_silent(FileOps(), path) < 500


def test_anothers_claim_is_not_touched(tmp_path: Path) -> None:
    """An overtaken worker does not keep its dead successor's claim alive."""
    path = tmp_path / "a.json"
    write(path, parents(), silent_for=1000)
    keep_fresh(path, MINE, lambda _: False, 60.0)
    assert seconds_silent(FileOps(), path) >= 1000


def test_a_heartbeat_is_a_thread_that_ends_at_once(tmp_path: Path) -> None:
    """It touches by itself, and `stop` does not wait for the interval."""
    path = tmp_path / "a.json"
    write(path, MINE, silent_for=1000)
    others = set(threading.enumerate())
    heartbeat = Heartbeat(path, MINE, seconds=0.01)
    (thread,) = set(threading.enumerate()) - others
    wait_for(lambda: seconds_silent(FileOps(), path) < 500)
    heartbeat.stop()
    thread.join()


def test_all_claims_of_a_run_are_read_by_name(tmp_path: Path) -> None:
    """Names may hold folders; temporary files, probes and what is no claim are passed over; no folder is no claims."""
    assert read_claims(tmp_path / "none") == {}
    assert read_claims(tmp_path) == {}
    write(tmp_path / "a.json", MINE)
    write(tmp_path / "x.json" / "b.json", parents(task="0001/2"))
    write(tmp_path / ".a.json.0123456789ab", MINE)
    (tmp_path / "torn.json").write_bytes(b"{")
    assert read_claims(tmp_path) == {"a": MINE, "x.json/b": parents(task="0001/2")}
