"""hpc/event_file.py: a file that is only appended to, and is all that is known of what was said."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc.event_file import EventFile
from hpc.events import NodeExcluded, RoundDone, RunStarted, TarQuarantined
from jobs.fileops import FileOps


def quarantined(number: int, tar: str = "") -> TarQuarantined:
    return TarQuarantined(id=f"q/{number}", time="2026-11-28T19:00:00.000+00:00", run="abc", tar=tar, reason="x")


STARTED = RunStarted(id="run_started/1", time="2026-11-28T19:00:00.000+00:00", run="abc", output_dir="/t", host="h", tars=1)

COUNTS: dict[str, Any] = dict.fromkeys(
    (
        *("tars", "committed", "quarantined", "clips", "errors", "damaged_clips", "audio_seconds", "encoded_seconds"),
        *("bytes_done", "bytes_total", "tasks_running", "tasks_pending", "seconds", "scan_seconds"),
    ),
    0,
)
ROUND = RoundDone(id="round/9", time="yesterday", run="abc", outcome="running", **COUNTS)
"""A round whose time is none."""


def test_no_file_is_no_event(tmp_path: Path) -> None:
    """Before its first round a run has said nothing, and reading makes no file."""
    path = tmp_path / "events.jsonl"
    assert EventFile(path).read().ids == set()
    assert EventFile(path).append([]) == []
    assert not path.exists()


def test_what_others_appended_is_known(tmp_path: Path) -> None:
    """Two controllers in turn, each with its own place in the file, know of each other's events."""
    one, other = EventFile(tmp_path / "events.jsonl"), EventFile(tmp_path / "events.jsonl")
    one.append([STARTED, quarantined(1)])
    assert other.read().ids == {"run_started/1", "q/1"}
    other.append([quarantined(2)])
    said = one.read()
    assert said.ids == {"run_started/1", "q/1", "q/2"}
    assert (said.runs, said.last_run, said.rounds) == (1, "run_started", 0)


@pytest.mark.slow
def test_cut_anywhere(tmp_path: Path) -> None:
    """A controller killed, or a disk full, at any byte: what is not whole is said again, on a line of its own, and nothing
    that is whole is said twice.
    """
    path = tmp_path / "events.jsonl"
    events = [STARTED, quarantined(1), quarantined(2)]
    EventFile(path).append(events)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        file = EventFile(path)
        said = file.read().ids
        file.append([event for event in events if event.id not in said])
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line)["id"])
            except ValueError:
                continue
        assert sorted(found) == ["q/1", "q/2", "run_started/1"], size


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a write that fails in the middle, the whole lines count."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)

    def fail(_self: FileOps, fd: int, data: bytes) -> None:
        os.write(fd, data[: data.index(b"\n") + 5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FileOps, "write", fail)
        with pytest.raises(OSError, match="No space"):
            file.append([quarantined(1), quarantined(2)])
    assert file.read().ids == {"q/1"}
    file.append([quarantined(2)])
    assert file.read().ids == {"q/1", "q/2"}


def test_removed_file(tmp_path: Path) -> None:
    """Whoever removes the file gets everything again."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    file.append([STARTED, quarantined(1)])
    assert file.read().last_run == "run_started"
    path.unlink()
    assert file.read().ids == set()
    file.append([quarantined(1)])
    assert file.read().last_run == ""


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"\x00\x00\x00\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"event":1,"id":2}\n', b"[" * 3000 + b"\n"),
        b'{"event":"round","id":"round/9","version":7}\n',
        msgspec.json.encode(ROUND) + b"\n",
    ],
)
def test_lines_that_are_no_events(tmp_path: Path, line: bytes) -> None:
    """Lines of anything else, such as zeros after a power loss or rounds of a later version, stop nothing."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(line)
    file = EventFile(path)
    file.append([STARTED])
    said = file.read()
    assert "run_started/1" in said.ids
    assert said.last_round is None


def test_hostile_names(tmp_path: Path) -> None:
    """A name with line ends, escape sequences and direction marks stays one line of visible characters, and comes back."""
    name = 'a\nb\x1b[2J\u202e\u2028"}{'
    path = tmp_path / "events.jsonl"
    node = NodeExcluded(id="n", time="", run="abc", node=name, reason="")
    EventFile(path).append([quarantined(1, name), node])
    text = path.read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.split("\n"))
    assert [json.loads(line).get("tar") or json.loads(line).get("node") for line in text.splitlines()] == [name, name]
