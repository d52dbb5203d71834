"""Hooks that other packages install: they get each event of a run, in the process that wrote it.

A package adds one with an entry point in the group `tar2tokens.on_event` that names a callable which takes an event as a
dict. Each hook has a daemon thread of its own, which also imports it, so neither a slow nor a hanging one delays a round.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["ENTRY_POINT_GROUP", "Hook", "Hooks", "installed_hooks"]

ENTRY_POINT_GROUP = "tar2tokens.on_event"
MAX_WAITING = 100_000
"""Events that may wait for a hook; it misses those that come while so many wait."""
PATIENCE_SECONDS = 30.0
"""How long the end of a command waits for a hook that finishes no event."""
POLL_SECONDS = 0.05

Handler = Callable[[dict[str, Any]], object]

log = logging.getLogger("tar2tokens")


class Hook:
    """One hook and its thread. Both its faults are logged once: a call that failed, and events that it missed."""

    def __init__(self, name: str, load: Callable[[], Handler]) -> None:
        self._name = name
        self._load = load
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._said: set[str] = set()
        threading.Thread(target=self._work, name=f"on_event {name}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Events that it has not finished."""
        return self._waiting

    def give(self, lines: Sequence[bytes]) -> None:
        """Hand over events, encoded as in the file."""
        room = MAX_WAITING - self._waiting
        if len(lines) > room:
            self._warn("missed", "the hook %s of %s is too slow: it misses events, which are all in events.jsonl")
        for line in lines[: max(room, 0)]:
            with self._lock:
                self._waiting += 1
            self._lines.put(line)

    def wait(self, patience_s: float = PATIENCE_SECONDS) -> None:
        """Return when it has finished all events, or none of them for `patience_s`."""
        left, until = self._waiting, time.monotonic() + patience_s
        while self._waiting and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            if self._waiting < left:
                left, until = self._waiting, time.monotonic() + patience_s
        if self._waiting:
            self._warn("hangs", f"the hook %s of %s has not returned for {patience_s:g} s: it misses the last events")

    def _work(self) -> None:
        handler: Handler | None = None
        while True:
            line = self._lines.get()
            try:
                handler = handler or self._load()
                handler(json.loads(line))
            except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a hook does, the run goes on)
                handler = handler or _nothing
                self._warn("failed", "the hook %s of %s failed; further failures are not logged: %r", error)
            finally:
                with self._lock:
                    self._waiting -= 1

    def _warn(self, kind: str, words: str, *more: object) -> None:
        if kind not in self._said:
            self._said.add(kind)
            log.warning(words, self._name, ENTRY_POINT_GROUP, *more)


def _nothing(_event: dict[str, Any]) -> None:
    """Stands for a hook that could not be loaded."""


class Hooks:
    """All hooks, found when the first event comes."""

    def __init__(self, find: Callable[[], Iterable[Hook]] | None = None) -> None:
        self._find = find or installed_hooks
        self._hooks: list[Hook] | None = None

    def give(self, lines: Sequence[bytes]) -> None:
        """Hand events to every hook."""
        if not lines:
            return
        if self._hooks is None:
            self._hooks = list(self._find())
        for hook in self._hooks:
            hook.give(lines)

    def wait(self) -> None:
        """Let every hook finish, as long as it finishes anything."""
        for hook in self._hooks or ():
            hook.wait()


def installed_hooks() -> list[Hook]:
    """The hooks of all installed packages."""
    return [Hook(point.name, point.load) for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)]
