"""The terminal of a watch: a live table, or occasional lines where there is none."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from hpc.controller import Round
from hpc.live_table import Board, draw
from hpc.monitor import Snapshot, Speed, line
from hpc.task_rows import TaskFollower
from jobs.plain_text import plain_lines, warn

if TYPE_CHECKING:  # rich is slow to import, and a command without a terminal does not need it
    from rich.console import Console, Group
    from rich.live import Live

__all__ = ["Screen"]

LINE_SECONDS = 10.0
DRAWS_PER_SECOND = 1.0
"""Beside those of rounds and of a resized terminal: the times since progress go on."""
MESSAGES_KEPT, MESSAGES_SHOWN = 200, 4
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
"""DECAWM: a sign that is wider than we think must not push the lines below it down."""

log = logging.getLogger("tar2tokens")


class Screen:
    """Shows rounds: as a live table on a terminal, otherwise as occasional lines.

    The table has the terminal's alternate screen, which no resizing breaks and no scrolling moves. At the end, also after an
    interruption or an error, its last state is printed below what stood there before, with the messages of the meantime.
    """

    def __init__(self, moment: float, clock: Callable[[], float] = time.time) -> None:
        self._spoken = moment
        self._clock = clock
        self._tasks = TaskFollower()
        self._live: Live | None = None
        self._board: Board | None = None
        self._messages = _Messages()
        self._drawn: object = None
        self._suspended = False

    @contextmanager
    def on(self) -> Iterator[None]:
        """Use the terminal within this block."""
        if not (sys.stderr.isatty() and _in_foreground()):
            yield
            return
        from rich.console import Console
        from rich.live import Live

        # Not the size in COLUMNS and LINES: a resized terminal does not change them.
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        console = Console(file=sys.stderr, force_terminal=True, _environ=environment)
        if console.is_dumb_terminal or not environment.get("TERM"):
            yield
            return
        live = Live(
            console=console,
            screen=True,
            refresh_per_second=DRAWS_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: self._draw(console),
        )
        try:
            with ExitStack() as stack:
                stack.enter_context(self._messages.taken())
                stack.enter_context(self._suspending())
                stack.callback(self._leave, live)
                self._enter(live)
                self._live = live
                yield
        finally:
            self._live = None
            for message in self._messages.kept:
                warn(message)
            self._messages.kept.clear()
            if self._board is not None:
                console.print(self._draw(console), no_wrap=True, crop=True)

    def show(self, seen: Round, now: Snapshot, speed: Speed, moment: float, notes: Sequence[str]) -> None:
        """Show one round."""
        if self._live is not None:
            tasks = [] if now.training else self._tasks.look(seen, self._clock())
            self._board = Board(now=now, speed=speed.words(now, moment), tasks=tasks, notes=notes)
            if self._live.is_started:
                self._live.refresh()
        elif moment - self._spoken >= LINE_SECONDS:
            self._spoken = moment
            warn(line(now, speed.words(now, moment)))

    def attend(self) -> None:
        """To be called often between rounds: draw again after a resize or a message, and let Ctrl-Z suspend."""
        if self._live is None:
            return
        if self._suspended:
            self._suspended = False
            self._leave(self._live)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif not self._live.is_started:
            if _in_foreground():  # after `fg`; after `bg` the terminal is the shell's
                self._enter(self._live)
        elif self._drawn != self._state(self._live.console):
            self._live.refresh()

    def _draw(self, console: Console) -> Group:
        from rich.console import Group

        self._drawn = self._state(console)
        if self._board is None:
            return Group("looking at the run ...")
        shown = list(self._messages.kept)[-MESSAGES_SHOWN:]
        board = msgspec.structs.replace(self._board, messages=shown)
        ascii_only = console.options.ascii_only
        return Group(*draw(board, console.width, console.height, self._clock(), ascii_only=ascii_only))

    def _state(self, console: Console) -> tuple[object, ...]:
        return (console.width, console.height, self._messages.written)

    @staticmethod
    def _enter(live: Live) -> None:
        live.start()
        live.console.file.write(WRAP_OFF)
        live.refresh()

    @staticmethod
    def _leave(live: Live) -> None:
        live.console.file.write(WRAP_ON)
        live.stop()

    @contextmanager
    def _suspending(self) -> Iterator[None]:
        """Within this block SIGTSTP waits for `attend`: a handler that interrupts a write must not write."""

        def remember(_number: int, _frame: FrameType | None) -> None:
            self._suspended = True

        before = signal.getsignal(signal.SIGTSTP)
        if before is not signal.SIG_DFL:
            yield
            return
        signal.signal(signal.SIGTSTP, remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)


def _in_foreground() -> bool:
    """Whether the terminal is ours to draw on: not in a job with `&`."""
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:  # it controls no jobs
        return True


class _Messages(io.TextIOBase):
    """What is written to stderr while the table has the terminal."""

    def __init__(self) -> None:
        self.kept: deque[str] = deque(maxlen=MESSAGES_KEPT)
        self.written = 0
        """Lines so far."""
        self._begun = ""

    def write(self, text: str) -> int:
        """Keep whole lines."""
        *lines, self._begun = (self._begun + text).split("\n")
        self.kept.extend(plain_lines(each) for each in lines)
        self.written += len(lines)
        return len(text)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within this block, all that goes to stderr and to the screen of the log."""
        stderr = sys.stderr
        handlers = [each for each in log.handlers if isinstance(each, logging.StreamHandler) and each.stream is stderr]
        for handler in handlers:
            handler.setStream(self)
        sys.stderr = self
        try:
            yield
        finally:
            sys.stderr = stderr
            for handler in handlers:
                handler.setStream(stderr)
