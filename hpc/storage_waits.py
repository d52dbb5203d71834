"""Pure: how long a run waits while its results cannot be written. No tar is blamed, and the run continues by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from audio_tokenizers.shared.wording import counted
from jobs.progress import Try

__all__ = ["STORAGE_ROUNDS", "StorageWaits", "pause_s"]

STORAGE_ROUNDS = 5
"""Rounds in a row with nothing but storage trouble, after which the run counts as stuck during each pause."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0


def pause_s(times: int) -> float:
    """Seconds between submissions after so many in a row that could write nothing: 0, 30, 60, ... 600."""
    return min(FIRST_PAUSE_S * 2.0 ** (times - 1), LONGEST_PAUSE_S) if times else 0.0


@dataclass
class _Tries:
    """For one tar, or for all: the rounds in a row, and the age of the latest submission."""

    rounds: list[int] = field(default_factory=list)
    age_s: float = math.inf

    def add(self, round_: int, age_s: float) -> None:
        if round_ not in self.rounds[-1:]:
            self.rounds.append(round_)
        self.age_s = age_s

    @property
    def times(self) -> int:
        return len(self.rounds)

    @property
    def wait(self) -> bool:
        return self.age_s < pause_s(self.times)


@dataclass
class StorageWaits:
    """Storage trouble since the last successful write, fed oldest submission first."""

    place: str
    """The run directory, for messages."""
    _all: _Tries = field(default_factory=_Tries)
    _words: str = ""
    _tars: dict[str, _Tries] = field(default_factory=dict)
    """Tars that could not be written while others could."""

    def add(self, tries: Sequence[Try], wordless: int, *, round_: int, age_s: float, went_well: bool) -> bool:
        """Count a submission; returns whether it brought nothing but storage trouble."""
        told = [attempt for attempt in tries if attempt.storage]
        if went_well or any(attempt.came_on for attempt in tries):
            self._all = _Tries()
            for attempt in tries:
                if attempt.came_on or attempt.outcome in ("committed", "damaged"):
                    self._tars.pop(attempt.name, None)
                elif attempt.storage:
                    self._tars.setdefault(attempt.name, _Tries()).add(round_, age_s)
            return False
        if not told and not wordless:
            return False
        self._all.add(round_, age_s)
        self._words = self._describe(told[-1]) if told else self._describe_wordless(wordless)
        return True

    def holds(self, tar: str) -> bool:
        """Whether a tar should wait, because every tar should or because it alone cannot be written."""
        return self._all.wait or self._tries(tar).wait

    def diagnosis(self, tars: Sequence[str]) -> str:
        """Why all of these tars wait; empty unless all do."""
        if not tars or not all(map(self.holds, tars)):
            return ""
        found = self._words if self._all.wait else f"{counted(len(tars), 'tar')} cannot be written to {self.place}"
        return f"{found}; later rounds of hpc.resume try again by themselves"

    def last(self, tars: Sequence[str]) -> bool:
        """Whether they have waited often enough to tell the user."""
        return self._all.times >= STORAGE_ROUNDS or all(self._tries(tar).times >= STORAGE_ROUNDS for tar in tars)

    def _tries(self, tar: str) -> _Tries:
        return self._tars.get(tar, _Tries())

    def _describe(self, attempt: Try) -> str:
        if attempt.storage == "full":
            return f"no room on {self.place}: make room and run hpc.resume again"
        return f"{self.place} cannot be written to ({attempt.problem}): fix that and run hpc.resume again"

    def _describe_wordless(self, number: int) -> str:
        return (
            f"{counted(number, 'task')} exited without a line in the log, as happens when there is no room for one: see "
            f"whether {self.place} is full, and whether --setup ends the job, and run hpc.resume again"
        )
