"""hpc/screen.py: the terminal of a watch: a live table that any resizing leaves whole, and plain lines elsewhere."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from support.boards import round_of, snapshot
from support.terminal import Terminal

from hpc.monitor import Speed
from hpc.screen import Screen
from jobs.plain_text import warn
from jobs.progress import Progress, Try


def stderr_of(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written from now on to stderr, which says that it is a terminal. No fixture, since pytest sets its own after
    those.
    """
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def show(screen: Screen, moment: float = 1.0, *notes: str, **figures: object) -> None:
    """A round with one worker."""
    seen = round_of(Progress(tries=[Try("日本語_000012", "working")], node="n1"))
    screen.show(seen, snapshot(**figures), Speed(snapshot(), 0.0), moment, notes)


class TestPlainLines:
    def test_now_and_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a terminal a line every ten seconds is enough: a log of cron or of a chain stays readable."""
        screen = Screen(0.0)
        with screen.on():
            for moment in (1.0, 9.0, 11.0, 12.0, 22.0):
                show(screen, moment, clips=int(moment))
                screen.attend()
        out, err = capsys.readouterr()
        assert out == ""
        assert [text.split(", ")[1] for text in err.splitlines()] == ["11 clips", "22 clips"]

    @pytest.mark.parametrize("term", ["dumb", "", None])
    def test_a_dumb_terminal(self, monkeypatch: pytest.MonkeyPatch, term: str | None) -> None:
        """One that cannot move its cursor, or of which nothing is known, gets the same lines."""
        terminal = stderr_of(monkeypatch)
        monkeypatch.delenv("TERM", raising=False)
        if term is not None:
            monkeypatch.setenv("TERM", term)
        screen = Screen(0.0)
        with screen.on():
            show(screen, 11.0)
        assert terminal.getvalue().startswith("0/4 tars, 0 clips")
        assert "\x1b" not in terminal.getvalue()

    def test_in_the_background(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command with `&` leaves the terminal to the shell."""
        terminal = stderr_of(monkeypatch)
        monkeypatch.setattr(os, "tcgetpgrp", lambda _number: os.getpgrp() + 1)
        screen = Screen(0.0)
        with screen.on():
            show(screen, 11.0)
        assert terminal.getvalue().startswith("0/4 tars, 0 clips")


class TestTable:
    @pytest.fixture(autouse=True)
    def in_foreground(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However pytest was started."""
        monkeypatch.setattr(os, "tcgetpgrp", lambda _number: os.getpgrp())

    def test_after_bg(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A suspended watch that goes on in the background draws nothing until it is in the foreground again."""
        terminal = stderr_of(monkeypatch)
        screen = Screen(0.0)
        monkeypatch.setattr(os, "kill", lambda _process, number: sent.append(number))
        sent: list[int] = []
        with screen.on():
            show(screen)
            signal.raise_signal(signal.SIGTSTP)
            screen.attend()
            assert sent == [signal.SIGSTOP]
            monkeypatch.setattr(os, "tcgetpgrp", lambda _number: os.getpgrp() + 1)
            before = terminal.getvalue()
            show(screen, done=2)
            screen.attend()
            assert terminal.getvalue() == before
            monkeypatch.setattr(os, "tcgetpgrp", lambda _number: os.getpgrp())
            screen.attend()
            assert "2 of 4 done" in terminal.getvalue()[len(before) :]

    def test_what_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the end the messages of the meantime and the last state are printed, outside of the alternate screen."""
        terminal = stderr_of(monkeypatch)
        screen = Screen(0.0)
        with screen.on():
            show(screen, 0.1, "a note", done=1)
            warn("trouble\nwith a node")
            show(screen, 0.2, "a note", done=2)
        live, _, stays = terminal.getvalue().rpartition("\x1b[?1049l")
        assert "1 of 4 done" in live
        assert stays.startswith("trouble\n  with a node\n")
        assert "2 of 4 done" in stays
        assert "日本語_000012" in stays
        assert "a note" in stays
        assert sys.stderr is terminal

    def test_it_stays_after_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when a round raises; the cursor is shown again."""
        terminal = stderr_of(monkeypatch)
        screen = Screen(0.0)

        def fail() -> None:
            with screen.on():
                show(screen, done=1)
                raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            fail()
        live, _, stays = terminal.getvalue().rpartition("\x1b[?1049l")
        assert "1 of 4 done" in stays
        assert live.rpartition("\x1b[?25")[2].startswith("h")

    def test_nothing_stays_of_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A watch that ends before its first round shows no table."""
        terminal = stderr_of(monkeypatch)
        with Screen(0.0).on():
            pass
        assert terminal.getvalue().rpartition("\x1b[?1049l")[2] == ""

    def test_messages_are_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the log says to the screen does not break the table: it is a row of it, and printed at the end."""
        terminal = stderr_of(monkeypatch)
        log = logging.getLogger("tar2tokens")
        handler = logging.StreamHandler(terminal)
        log.addHandler(handler)
        screen = Screen(0.0)
        try:
            with screen.on():
                show(screen)
                before = len(terminal.getvalue())
                log.warning("squeue does not answer")
                assert len(terminal.getvalue()) == before
                screen.attend()
                assert "squeue does not answer" in terminal.getvalue()[before:]
            assert terminal.getvalue().rpartition("\x1b[?1049l")[2].startswith("squeue does not answer\n")
            log.warning("afterwards")
            assert terminal.getvalue().endswith("afterwards\n")
        finally:
            log.removeHandler(handler)

    def test_no_color(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """NO_COLOR leaves bold and dim."""
        terminal = stderr_of(monkeypatch)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLORTERM", "truecolor")
        screen = Screen(0.0)
        with screen.on():
            show(screen, bytes_done=2_000_000)
        assert "\x1b[36m" not in terminal.getvalue()
        assert "\x1b[1m" in terminal.getvalue()

    def test_sizes_of_the_shell_are_not_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """COLUMNS and LINES stay what they were when a terminal is resized."""
        terminal = stderr_of(monkeypatch)
        monkeypatch.setenv("COLUMNS", "300")
        screen = Screen(0.0)
        with screen.on():
            show(screen)
        assert max(map(len, terminal.getvalue().splitlines())) < 300


WATCH = """
import sys
import msgspec
from support.boards import round_of
from hpc.monitor import Snapshot, Speed
from hpc.screen import Screen
from jobs.progress import Progress
now = msgspec.json.decode(sys.argv[1], type=Snapshot)
screen = Screen(0.0)
with screen.on():
    for order in sys.stdin:
        if order == "attend\\n":
            screen.attend()
        else:
            report = msgspec.json.decode(sys.argv[3], type=Progress)
            screen.show(round_of(report), now, Speed(now, 0.0), 1.0, [sys.argv[2]])
        print(chr(7), end="", file=sys.__stderr__, flush=True)
print(chr(7), end="", file=sys.__stderr__, flush=True)
"""
NOTE = "a note that is long enough to need several rows of a terminal that has become as narrow as this one has, or more"
NAMES = ["tars", "clips", "running", "speed", "note"]


class Watched:
    """A screen in a process of its own, on a terminal."""

    def __init__(self) -> None:
        self.terminal = Terminal(width=100, height=40)
        now, report = snapshot(running={"n1": 4, "n2": 8}), Progress(tries=[Try("音声_000012", "working")], node="n1")
        command = [
            sys.executable,
            "-c",
            WATCH,
            msgspec.json.encode(now).decode(),
            NOTE,
            msgspec.json.encode(report).decode(),
        ]
        env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        env = {**env, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self.terminal.slave, env=env, text=True)

    def order(self, order: str) -> list[str]:
        """The rows of the terminal once the order is carried out."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{order}\n")
        self.child.stdin.flush()
        return self.terminal.read_to(b"\a")

    def end(self) -> list[str]:
        """The rows after its end."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        return self.terminal.read_to(b"\a")


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Ended afterwards."""
    found = Watched()
    try:
        yield found
    finally:
        found.child.kill()
        found.child.communicate()
        found.terminal.close()


def figures(rows: list[str]) -> list[str]:
    """The names of the figures on the screen."""
    return [row.split()[0] for row in rows if not row.startswith(" ")]


@pytest.mark.slow
def test_a_terminal_that_is_resized_keeps_no_old_rows(watched: Watched) -> None:
    """On a real terminal each row of the table stands there once, whatever the window's width was before; so at the end."""
    last = ["task", "0001/0"]
    assert figures(watched.order("show")) == [*NAMES, *last]
    for how, width in (("attend", 60), ("show", 75), ("attend", 300), ("attend", 70)):
        watched.terminal.resize(width)
        rows = watched.order(how)
        assert [name for name in figures(rows) if name in NAMES] == NAMES
        assert sum("_000012" in row for row in rows) == 1
        assert NOTE in " ".join(" ".join(rows).split())
    for width in (20, 31):
        watched.terminal.resize(width)
        rows = watched.order("attend")
        assert [row for row in rows if row.startswith("tars")] == [rows[0]]
        assert sum("000012" in row for row in rows) == 1
    watched.terminal.resize(90)
    rows = watched.end()
    assert [name for name in figures(rows) if name in NAMES] == NAMES
    assert watched.terminal.modes == {"?25": True, "?7": True, "?1049": False}


@pytest.mark.slow
def test_suspended(watched: Watched) -> None:
    """Ctrl-Z gives the terminal back as it was, and `fg` takes it again."""
    watched.order("show")
    assert watched.terminal.modes["?1049"]
    watched.child.send_signal(signal.SIGTSTP)
    assert watched.child.stdin is not None
    watched.child.stdin.write("attend\nattend\n")
    watched.child.stdin.flush()
    _, status = os.waitpid(watched.child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    watched.terminal.read_to(b"\x1b[?1049l")
    watched.child.send_signal(signal.SIGCONT)
    watched.terminal.read_to(b"\a")
    assert "tars" in figures(watched.terminal.read_to(b"\a"))
    assert watched.terminal.modes["?1049"]
