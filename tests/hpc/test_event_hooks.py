"""hpc/event_hooks.py: hooks of other packages get every event, and nothing that they do reaches a round."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc import event_hooks
from hpc.event_hooks import ENTRY_POINT_GROUP, Hook, Hooks

EVENTS = [b'{"event":"round","id":"round/1"}', b'{"event":"round","id":"round/2"}']


def test_installed_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's entry point is loaded when the first event comes, not before, and called with each."""
    (tmp_path / "tries_hooks.py").write_text("got = []\ndef on_event(event):\n    got.append(event['id'])\n")
    folder = tmp_path / "tries_hooks-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tries-hooks\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\ntries = tries_hooks:on_event\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    hooks = Hooks()
    hooks.give([])
    hooks.wait()
    assert "tries_hooks" not in sys.modules
    hooks.give(EVENTS)
    hooks.wait()
    module = sys.modules.pop("tries_hooks")
    assert vars(module)["got"] == ["round/1", "round/2"]


def wrong(event: dict[str, Any]) -> None:
    raise ValueError(f"\x1b[2Jcannot take {event['id']}")


def leaves(event: dict[str, Any]) -> None:
    sys.exit(event["id"])


def cannot_load() -> Callable[[dict[str, Any]], object]:
    raise ImportError("no module named wandb")


@pytest.mark.parametrize(
    ("load", "words"),
    [(lambda: wrong, "cannot take round/1"), (lambda: leaves, "round/1"), (cannot_load, "no module named wandb")],
    ids=["raises", "exits", "cannot be imported"],
)
def test_failing_hook(load: Callable[[], Any], words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its first failure is logged with its name, no other one, and the other hooks get all events."""
    got: list[str] = []
    hooks = Hooks(lambda: [Hook("bad", load), Hook("good", lambda: lambda event: got.append(event["id"]))])
    hooks.give(EVENTS)
    hooks.give(EVENTS)
    hooks.wait()
    assert got == ["round/1", "round/2"] * 2
    [record] = caplog.records
    assert "bad" in record.getMessage()
    assert words in record.getMessage()


def test_one_hook_cannot_change_what_another_gets() -> None:
    """Each gets an object of its own."""
    got: list[str] = []

    def spoil(event: dict[str, Any]) -> None:
        event["id"] = "spoilt"

    hooks = Hooks(lambda: [Hook("spoil", lambda: spoil), Hook("good", lambda: lambda event: got.append(event["id"]))])
    hooks.give(EVENTS)
    hooks.wait()
    assert got == ["round/1", "round/2"]


def test_hanging_hook(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It delays no round. The command waits for it at the end, but not for ever, and says that it misses events."""
    release, entered = threading.Event(), threading.Event()

    def hang(_event: dict[str, Any]) -> None:
        entered.set()
        release.wait()

    monkeypatch.setattr(event_hooks, "MAX_WAITING", 3)
    hook = Hook("slow", lambda: hang)
    hook.give(EVENTS)
    entered.wait()
    with caplog.at_level(logging.WARNING):
        hook.give(EVENTS)
        hook.give(EVENTS)
        hook.wait(patience_s=0.0)
    assert hook.waiting == 3
    said = [record.getMessage() for record in caplog.records]
    assert ["misses events" in said[0], "has not returned" in said[1]] == [True, True]
    assert len(said) == 2
    release.set()
    hook.wait()
    assert hook.waiting == 0


def test_slow_hook_is_waited_for_while_it_works() -> None:
    """The patience is for one event, not for all."""
    steps = threading.Semaphore(0)
    hook = Hook("slow", lambda: lambda _event: steps.acquire())
    hook.give(EVENTS)
    steps.release(2)
    hook.wait()
    assert hook.waiting == 0


def test_thread_does_not_keep_a_process() -> None:
    """A hook that hangs for ever does not keep the command from ending."""
    before = set(threading.enumerate())
    hook = Hook("named", lambda: lambda _event: None)
    [thread] = set(threading.enumerate()) - before
    assert thread.daemon
    hook.give(EVENTS)
    hook.wait()
