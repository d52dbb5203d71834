"""How long one host takes to see what another writes: notes that are answered as soon as they are seen.

The asker times each round by its own clock. Answers carry the answering host's clock: the clocks can be compared to within
half a round. python -m tools.doctoring.news ask|answer FOLDER
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.commands import command_parser
from jobs.fileops import FileOps, write_atomically
from tools.doctoring.bounded import Answer

__all__ = ["News", "Post", "answer", "ask", "host_name"]

NOTES = 3
LOOK_SECONDS = 0.05
LAST_NOTE = "end"


class News(msgspec.Struct, frozen=True):
    """What the asker learned about one host."""

    rounds_s: tuple[float, ...]
    """From writing a note until its answer was seen."""
    unanswered: int
    ahead_s: float | None
    """Its clock, relative to the asker's; None without an answer."""


@dataclass(frozen=True)
class Post:
    """A folder that hosts share, and the clocks of one of them."""

    folder: Path
    ops: FileOps = FileOps()  # noqa: RUF009 (it has no state)
    clock: Callable[[], float] = time.time
    passed: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep

    def write(self, name: str, text: str) -> None:
        """Write a note that appears whole or not at all."""
        write_atomically(self.ops, self.folder / name, text.encode())

    def read(self, name: str) -> str | None:
        """Read a note by name, as claims and partials are read; None while it is not visible here."""
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def names(self, begin: str) -> set[str]:
        """The rest of the names of notes that start with `begin`, from a listing of the folder."""
        return {name[len(begin) :] for name in os.listdir(self.folder) if name.startswith(begin)}  # noqa: PTH208


def host_name() -> str:
    """The name of this host in notes."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def answer(post: Post, me: str, seconds: float) -> int:
    """Answer notes until the last one or the end of the time; returns how many were seen."""
    post.write(f"here-{me}", "")
    until = post.passed() + seconds
    seen = 0
    while post.passed() < until and post.read(LAST_NOTE) is None:
        if post.read(f"note-{seen}") is None:
            post.wait(LOOK_SECONDS)
            continue
        post.write(f"answer-{seen}-{me}", repr(post.clock()))
        seen += 1
    return seen


def ask(post: Post, hosts: int, *, start_s: float, note_s: float) -> dict[str, News]:
    """Wait for the hosts, at most `start_s`; then write notes, and wait at most `note_s` for the answers to each."""
    until = post.passed() + start_s
    while len(here := post.names("here-")) < hosts and post.passed() < until:
        post.wait(LOOK_SECONDS)
    rounds: dict[str, list[float]] = {host: [] for host in here}
    ahead: dict[str, float] = {}
    unanswered = dict.fromkeys(here, 0)
    for number in range(NOTES):
        began, clock = post.passed(), post.clock()
        post.write(f"note-{number}", "")
        waiting = set(here)
        while waiting and post.passed() < began + note_s:
            for host in sorted(waiting):
                said = post.read(f"answer-{number}-{host}")
                if said is not None:
                    took = post.passed() - began
                    rounds[host].append(took)
                    if took == min(rounds[host]):
                        ahead[host] = float(said) - (clock + took / 2)
                    waiting.discard(host)
            post.wait(LOOK_SECONDS)
        for host in waiting:
            unanswered[host] += 1
        if len(waiting) == len(here):
            break  # the next one would only take as long again
    post.write(LAST_NOTE, "")
    return {host: News(tuple(rounds[host]), unanswered[host], ahead.get(host)) for host in here}


def main(arguments: Sequence[str]) -> int:
    """Notes between hosts for tools.doctor: ask, or answer."""
    parser = command_parser(main.__doc__)
    parser.add_argument("role", choices=("ask", "answer"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--start", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args(arguments)
    post = Post(given.folder)
    if given.role == "answer":
        with suppress(FileNotFoundError):  # the asker has gone, and removed the folder
            answer(post, host_name(), given.seconds)
        return 0
    for host, news in sorted(ask(post, given.hosts, start_s=given.start, note_s=given.seconds).items()):
        print(msgspec.json.encode(Answer("news", msgspec.Raw(msgspec.json.encode(news)), node=host)).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
