"""A terminal for tests: a real pty, and what a person would see on it, also after its window has become narrower."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios

SEQUENCE = re.compile(rb"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Terminal:
    """Rows of text under a cursor. A row that was broken at the edge is joined and broken anew when the width changes."""

    def __init__(self, width: int, height: int) -> None:
        self.master, self.slave = os.openpty()
        self._width, self._height = width, height
        self._rows = [bytearray()]
        self._joined = [False]
        """Whether a row goes on in the next."""
        self._at = [0, 0]
        self._unread = b""
        self._announce()

    def _announce(self) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", self._height, self._width, 0, 0))

    def resize(self, width: int) -> None:
        """As terminals do that keep long lines whole: those of GNOME and macOS, tmux, and others."""
        lines, cursor = [bytearray()], (0, 0)
        for number, (row, joined) in enumerate(zip(self._rows, self._joined, strict=True)):
            if number == self._at[0]:
                cursor = len(lines) - 1, len(lines[-1]) + self._at[1]
            lines[-1] += row
            if not joined:
                lines.append(bytearray())
        self._width = width
        self._rows, self._joined = [], []
        for number, line in enumerate(lines[:-1]):
            pieces = [line[start : start + width] for start in range(0, max(len(line), 1), width)]
            if number == cursor[0]:
                self._at = [len(self._rows) + min(cursor[1] // width, len(pieces) - 1), cursor[1] % width]
            self._rows += pieces
            self._joined += [*[True] * (len(pieces) - 1), False]
        self._announce()

    def read_to(self, mark: bytes) -> list[str]:
        """Take in all output up to `mark`; returns the rows that have text on them."""
        while mark not in self._unread:
            self._unread += os.read(self.master, 1 << 16)
        output, _, self._unread = self._unread.partition(mark)
        while output:
            sequence = SEQUENCE.match(output)
            if sequence:
                self._obey(sequence[1].decode(), sequence[2].decode())
                output = output[sequence.end() :]
            else:
                self._put(output[:1])
                output = output[1:]
        return [text for row in self._rows if (text := row.decode(errors="replace").rstrip())]

    def _obey(self, numbers: str, what: str) -> None:
        row, _ = self._at
        if what == "A":
            self._at[0] = max(0, row - int(numbers or 1))
        elif what == "H":
            self._at = [0, 0]
        elif what == "J":
            self._rows, self._joined = [bytearray() for _ in self._rows], [False] * len(self._rows)
        elif what == "K":
            self._rows[row] = bytearray()
            self._joined[row] = False

    def _put(self, character: bytes) -> None:
        if character == b"\r":
            self._at[1] = 0
        elif character == b"\n":
            self._down()
        elif character >= b" ":
            if self._at[1] == self._width:
                self._joined[self._at[0]] = True
                self._down()
                self._at[1] = 0
            row, column = self._at
            self._rows[row][column : column + 1] = character.rjust(1)
            self._at[1] += 1

    def _down(self) -> None:
        self._at[0] += 1
        if self._at[0] == len(self._rows):
            self._rows.append(bytearray())
            self._joined.append(False)

    def close(self) -> None:
        """Let the pty go."""
        os.close(self.master)
        os.close(self.slave)
