"""`.run/events.jsonl`: one event per line, only ever appended. What it has is the only record of what was said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from hpc.events import Event, RoundDone, Said, seconds_of
from jobs.any_json import decode_json
from jobs.fileops import append_line, end_last_line
from jobs.plain_text import plain_json

__all__ = ["EventFile"]

RUN_EVENT = "run_"


class _Peek(msgspec.Struct):
    """The fields that tell which event a line is."""

    event: str
    id: str


class EventFile:
    """The file of one run. Called by the process that holds the round's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self._said = Said()

    def read(self) -> Said:
        """What the file has, including what other controllers have added. A line that a crash or a full disk has cut off is
        none. Raises OSError.
        """
        end_last_line(self._path)
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._read_to, self._said = 0, Said()
            return self._said
        with file:
            if os.fstat(file.fileno()).st_size < self._read_to:  # removed or cut: what is gone is said again
                self._read_to, self._said = 0, Said()
            file.seek(self._read_to)
            latest_round = b""
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                latest_round = self._note(line) or latest_round
        if latest_round:
            self._note_round(latest_round)
        return self._said

    def append(self, events: Sequence[Event]) -> list[bytes]:
        """Add events; returns their lines. Raises OSError, after which some of them may be there."""
        lines = [_line(event) for event in events]
        if lines:
            append_line(self._path, b"\n".join(lines))
        return lines

    def _note(self, line: bytes) -> bytes:
        """Take note of a line; returns it if it is a round's."""
        try:
            found = decode_json(line, _Peek)
        except msgspec.DecodeError:
            return b""
        said = self._said
        if found.id in said.ids:
            return b""
        said.ids.add(found.id)
        if found.event.startswith(RUN_EVENT):
            said.runs += 1
            said.last_run = found.event
        if found.event != "round":
            return b""
        said.rounds += 1
        return line

    def _note_round(self, line: bytes) -> None:
        self._said.last_round = None
        with suppress(msgspec.DecodeError, ValueError):  # of another version, or not ours
            found = decode_json(line, RoundDone)
            seconds_of(found)
            self._said.last_round = found


def _line(event: Event) -> bytes:
    """The event as JSON, all of it visible characters."""
    text = msgspec.json.encode(event).decode()
    return (text if text.isprintable() else plain_json(text)).encode()
