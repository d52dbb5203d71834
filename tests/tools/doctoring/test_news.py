"""tools/doctoring/news.py: how late hosts see what others write, on a simulated network file system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from tools.doctoring import news
from tools.doctoring.news import NOTES, Post, answer, ask


@dataclass
class Network:
    """Hosts that take turns on virtual time; a host sees what another has written `late` seconds after."""

    late: float
    now: float = 0.0
    notes: dict[str, tuple[str, float, str]] = field(default_factory=dict)
    """Name -> author, time, text."""


class Host(Post):
    """One host's view. Waiting lets others go on, by a callback, and moves the time."""

    network: Network
    name: str

    def __init__(self, network: Network, name: str, ahead: float = 0.0, others: Callable[[], None] = lambda: None) -> None:
        def wait(seconds: float) -> None:
            network.now += seconds
            others()

        super().__init__(Path("/nowhere"), clock=lambda: network.now + ahead, passed=lambda: network.now, wait=wait)
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "name", name)

    def _sees(self, note: tuple[str, float, str]) -> bool:
        return note[0] == self.name or self.network.now >= note[1] + self.network.late

    def write(self, name: str, text: str) -> None:
        self.network.notes[name] = (self.name, self.network.now, text)

    def read(self, name: str) -> str | None:
        note = self.network.notes.get(name)
        return note[2] if note is not None and self._sees(note) else None

    def names(self, begin: str) -> set[str]:
        return {
            name[len(begin) :] for name, note in self.network.notes.items() if name.startswith(begin) and self._sees(note)
        }


class Answering:
    """A node whose steps happen while the asker waits."""

    def __init__(self, network: Network, name: str, ahead: float) -> None:
        self.host, self.name, self.seen = Host(network, name, ahead), name, 0
        self.host.write(f"here-{name}", "")

    def step(self) -> None:
        if self.host.read(f"note-{self.seen}") is not None:
            self.host.write(f"answer-{self.seen}-{self.name}", repr(self.host.clock()))
            self.seen += 1


def asked(late: float, ahead: dict[str, float], *, note_s: float = 75.0, hosts: int | None = None) -> dict[str, news.News]:
    """What an asker learns of nodes whose clocks are so far ahead."""
    network = Network(late)
    nodes = [Answering(network, name, seconds) for name, seconds in ahead.items()]

    def others() -> None:
        for node in nodes:
            node.step()

    asker = Host(network, "login", others=others)
    return ask(asker, len(nodes) if hosts is None else hosts, start_s=60, note_s=note_s)


def test_rounds_take_twice_the_delay_and_clocks_are_compared() -> None:
    """There and back; a clock that is 5 s ahead is found so to within half a round."""
    found = asked(4.0, {"n1": 5.0, "n2": -30.0})
    for host, ahead in (("n1", 5.0), ("n2", -30.0)):
        assert len(found[host].rounds_s) == NOTES
        assert max(found[host].rounds_s) == pytest.approx(8.0, abs=0.2)
        assert found[host].ahead_s == pytest.approx(ahead, abs=0.2)
        assert found[host].unanswered == 0


def test_a_file_system_that_shows_nothing_in_time() -> None:
    """The first note is not answered, and no more time is spent on others."""
    found = asked(40.0, {"n1": 0.0}, note_s=60.0)
    assert (found["n1"].rounds_s, found["n1"].unanswered, found["n1"].ahead_s) == ((), 1, None)


def test_fewer_hosts_than_expected() -> None:
    """Those that are there are asked after a while; of none nothing is said."""
    assert set(asked(0.1, {"n1": 0.0}, hosts=2)) == {"n1"}
    assert asked(0.1, {}, hosts=1) == {}


def test_an_answering_host_ends_with_the_last_note_or_with_its_time(tmp_path: Path) -> None:
    """On real files: it says that it is here, and answers what it has seen."""
    post = Post(tmp_path, clock=lambda: 12.5)
    post.write("note-0", "")
    ticks = iter(range(100))
    assert answer(Post(tmp_path, clock=lambda: 12.5, passed=lambda: next(ticks), wait=lambda _s: None), "n1", 5) == 1
    assert post.read("answer-0-n1") == "12.5"
    assert post.names("here-") == {"n1"}
    post.write(news.LAST_NOTE, "")
    assert answer(post, "n2", 600) == 0


@pytest.mark.slow
def test_the_two_commands_find_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that answers, and one that asks."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "tools.doctoring.news", "answer", str(tmp_path), "--seconds", "120"]
    with subprocess.Popen(words, cwd=Path(news.__file__).parents[2]) as answering:
        assert news.main(["ask", str(tmp_path), "--hosts", "1", "--start", "120", "--seconds", "120"]) == 0
        assert answering.wait() == 0
    said = msgspec.json.decode(capsys.readouterr().out)
    assert said["node"] == news.host_name()
    assert len(said["facts"]["rounds_s"]) == NOTES
    assert abs(said["facts"]["ahead_s"]) < 60
