"""Task names, `SUBMISSION/SLOT`, and task command lines. They are formatted and parsed here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

__all__ = ["TaskId", "parse_task_command", "parse_task_line"]

NAME = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
"""ASCII digits only, and bounded: int() refuses very long numbers."""
NUMBER = re.compile(r"[0-9]{1,9}")
MODULE = "hpc.task"
LINE = re.compile(r"\S.* hpc\.task (?P<plan>.+?) --elements [0-9]+ (?:.* )?--element (?P<element>[0-9]{1,9})(?: .*)?")
WORDS_BEFORE = 8
"""Room for the interpreter and its options."""


class TaskId(msgspec.Struct, frozen=True):
    """One worker process of a submission."""

    submission: int
    slot: int

    def __str__(self) -> str:
        """`0003/12`."""
        return f"{self.submission:04}/{self.slot}"

    @classmethod
    def parse(cls, text: str) -> TaskId | None:
        """The task of that name; None for any other text, since any program may have written it."""
        match = NAME.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2]))


def parse_task_command(words: Sequence[str]) -> tuple[str, int] | None:
    """(plan file, element) of the command line of a task on this machine; None for other programs."""
    if MODULE not in words[:WORDS_BEFORE]:
        return None
    after = words[words.index(MODULE) + 1 :]
    if "--element" not in after:
        return None
    element = after[after.index("--element") + 1 :][:1]
    return (after[0], int(element[0])) if element and NUMBER.fullmatch(element[0]) else None


def parse_task_line(line: str) -> tuple[str, int] | None:
    """As `parse_task_command`, of a command line as `ps` shows it: words with spaces between, which paths may hold too."""
    match = LINE.fullmatch(line.strip())
    return None if match is None else (match["plan"], int(match["element"]))
