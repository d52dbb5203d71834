"""A terminal for tests: a real pty, and what a user would see on it, also after its window has got another size."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import struct
import termios
import unicodedata
from dataclasses import dataclass, field

SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


@dataclass
class _Rows:
    """Cells under a cursor. A wide sign has a cell and an empty one after it."""

    cells: list[list[str]] = field(default_factory=lambda: [[]])
    joined: list[bool] = field(default_factory=lambda: [False])
    """Whether a row goes on in the next."""
    at: list[int] = field(default_factory=lambda: [0, 0])


class Terminal:
    """Knows the alternate screen, whether the cursor is shown, and whether lines wrap at the edge."""

    def __init__(self, width: int, height: int) -> None:
        self.master, self.slave = os.openpty()
        self._width, self._height = width, height
        self._main, self._alternate = _Rows(), _Rows()
        self._unread = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.modes = {"?25": True, "?7": True, "?1049": False}
        """Of the cursor, of wrapping, and of the alternate screen."""
        self._announce()

    def _announce(self) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", self._height, self._width, 0, 0))

    def resize(self, width: int) -> None:
        """As terminals do that keep long lines whole, such as GNOME's, macOS's and tmux. The alternate screen is cut."""
        main = self._main
        lines: list[list[str]] = [[]]
        cursor = (0, 0)
        for number, (row, joined) in enumerate(zip(main.cells, main.joined, strict=True)):
            if number == main.at[0]:
                cursor = len(lines) - 1, len(lines[-1]) + main.at[1]
            lines[-1] += row
            if not joined:
                lines.append([])
        self._width = width
        self._main = main = _Rows([], [])
        for number, line in enumerate(lines[:-1]):
            pieces = [line[start : start + width] for start in range(0, max(len(line), 1), width)]
            if number == cursor[0]:
                main.at = [len(main.cells) + min(cursor[1] // width, len(pieces) - 1), cursor[1] % width]
            main.cells += pieces
            main.joined += [*[True] * (len(pieces) - 1), False]
        self._alternate.cells = [row[:width] for row in self._alternate.cells]
        self._announce()

    def read_to(self, mark: bytes) -> list[str]:
        """Take in all output up to `mark`; returns the rows that have text on them."""
        while mark not in self._unread:
            self._unread += os.read(self.master, 1 << 16)
        output, _, self._unread = self._unread.partition(mark)
        text = self._decoder.decode(output)
        while text:
            sequence = SEQUENCE.match(text)
            if sequence:
                self._obey(sequence[1], sequence[2])
                text = text[sequence.end() :]
            else:
                self._put(text[0])
                text = text[1:]
        return [shown for row in self._shown.cells if (shown := "".join(row).rstrip())]

    @property
    def _shown(self) -> _Rows:
        return self._alternate if self.modes["?1049"] else self._main

    def _obey(self, numbers: str, what: str) -> None:
        shown = self._shown
        if what == "A":
            shown.at[0] = max(0, shown.at[0] - int(numbers or 1))
        elif what == "H":
            shown.at = [0, 0]
        elif what == "J":
            shown.cells, shown.joined = [[] for _ in shown.cells], [False] * len(shown.cells)
        elif what == "K":
            shown.cells[shown.at[0]] = []
            shown.joined[shown.at[0]] = False
        elif what in "hl" and numbers in self.modes:
            self.modes[numbers] = what == "h"
            if numbers == "?1049":
                self._alternate = _Rows()

    def _put(self, sign: str) -> None:
        shown = self._shown
        if sign == "\r":
            shown.at[1] = 0
        elif sign == "\n":
            self._down()
        elif sign >= " ":
            cells = [sign, ""] if unicodedata.east_asian_width(sign) in "WF" else [sign]
            if shown.at[1] + len(cells) > self._width:
                if not self.modes["?7"]:
                    return
                shown.joined[shown.at[0]] = True
                self._down()
                shown.at[1] = 0
            row, column = shown.at
            line = shown.cells[row]
            line += [" "] * (column - len(line))
            line[column : column + len(cells)] = cells
            shown.at[1] += len(cells)

    def _down(self) -> None:
        shown = self._shown
        shown.at[0] += 1
        if shown.at[0] == len(shown.cells):
            shown.cells.append([])
            shown.joined.append(False)

    def close(self) -> None:
        """Let the pty go."""
        os.close(self.master)
        os.close(self.slave)
