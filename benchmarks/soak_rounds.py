"""The course of a soak: faults as planned, rounds of the controller all the while, then the run's end."""

from __future__ import annotations

import heapq
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`

from support.real_cluster import CommandError

from benchmarks.soak_faults import FAULTS, Lab
from benchmarks.soak_plan import Planned
from benchmarks.soak_report import Tried, to_blame
from hpc.rounds import EXIT_CODES

__all__ = ["MOST_PERSONS", "Soak"]

ROUND_SECONDS = 5.0
"""Between the rounds' beginnings, as cron would start them."""
AGAIN_SECONDS = 1.0
"""Until a fault or its mending is tried again for which there is no controller now."""
MOST_PERSONS = 30
USAGE = 2
LAST_WORDS = 2000


Due = list[tuple[float, int, Callable[[], None]]]
"""A heap: seconds since the beginning, order, action."""


class Soak:
    """Disturbs a run, and lets rounds of `hpc.resume --once` bring it to its end."""

    def __init__(self, lab: Lab, damaged: Collection[str]) -> None:
        self.tried: list[Tried] = []
        self.codes: Counter[str] = Counter()
        """Exit code of a round -> how often."""
        self.words: list[str] = []
        """What rounds said that ended as they should not."""
        self.code = EXIT_CODES["running"]
        """Of the last round."""
        self.finished_s = 0.0
        self.cluster = lab.cluster
        self._lab = lab
        self._damaged = frozenset(damaged)
        self._began = time.monotonic()
        self._next_round_s = 0.0
        self._round: subprocess.Popen[bytes] | None = None
        self._said = lab.run.folder / "round.out"
        self._retry = False
        self._order = itertools.count()
        self._strikes: Due = []
        self._mends: Due = []

    def faults(self, planned: Sequence[Planned], seconds: float) -> None:
        """Try them all, until `seconds` are over or the run is finished."""
        for fault in planned:
            self._at(self._strikes, fault.at_s, partial(self._strike, fault))
        while self._now() < seconds and not self._ended():
            self._act(self._mends)
            self._act(self._strikes)
            self._go_round()
            time.sleep(0.1)

    def finish(self) -> None:
        """Undo all faults, release the workers' brake, and do rounds until the end.

        TimeoutError where nothing moves any more.
        """
        self._mends = sorted((0.0, order, mend) for _, order, mend in self._mends)
        while self._mends:
            self._act(self._mends)
            time.sleep(0.1)
        self._lab.run.brake.unlink(missing_ok=True)

        def over() -> bool:
            self._go_round()
            return self._ended()

        self._lab.cluster.wait(over, "the run's end")
        self.finished_s = self._now()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _at(self, due: Due, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(due, (seconds, next(self._order), action))

    def _act(self, due: Due) -> None:
        """Do what is due. Without a Slurm controller some of it has to wait, and what is due after that waits too: a command
        takes seconds to give up, and the mending that brings the controller back comes first.
        """
        now = self._now()
        while due and due[0][0] <= now:
            _, _, action = heapq.heappop(due)
            try:
                action()
            except CommandError:
                self._at(due, self._now() + AGAIN_SECONDS, action)
                return

    def _strike(self, fault: Planned) -> None:
        hit = FAULTS[fault.kind](self._lab, random.Random(fault.chance))
        now = self._now()
        if hit is None:
            self._at(self._strikes, now + AGAIN_SECONDS, partial(self._strike, fault))
            return
        self.tried.append(Tried(at_s=round(now, 1), kind=fault.kind, what=hit.what, tars=tuple(sorted(hit.tars))))
        print(f"{now:7.1f} s  {fault.kind}: {hit.what}", flush=True)
        if hit.mend is not None:
            self._at(self._mends, now + fault.lasts_s, hit.mend)

    def _ended(self) -> bool:
        return self.code in (EXIT_CODES["finished"], EXIT_CODES["quarantined"]) or len(self._persons()) > MOST_PERSONS

    def _persons(self) -> list[Tried]:
        return [one for one in self.tried if one.person]

    def _go_round(self) -> None:
        if self._round is not None and self._round.poll() is not None:
            self._note(self._round.returncode)
            self._round = None
        if self._round is None and not self._ended() and self._now() >= self._next_round_s:
            self._next_round_s = self._now() + ROUND_SECONDS
            words = [sys.executable, "-m", "hpc.resume", "--once", "--output-dir", str(self._lab.run.output)]
            words += ["--retry-quarantined"] * self._retry
            self._retry = False
            with self._said.open("wb") as output:
                self._round = subprocess.Popen(
                    words, cwd=self._lab.run.folder, env=self._lab.run.env, stdout=output, stderr=output
                )

    def _note(self, code: int) -> None:
        """Do what the documentation tells the user to do after this exit code of a round."""
        self.codes[str(code)] += 1
        said = self._said.read_text(errors="replace")[-LAST_WORDS:]
        self.code = code
        if code in (EXIT_CODES["running"], EXIT_CODES["finished"]):
            return
        healthy = sorted(self._quarantine() - self._damaged)
        if code == EXIT_CODES["quarantined"] and not healthy:
            return
        self.words.append(f"{self._now():.0f} s: exit code {code}: {said}")
        print(f"{self._now():7.1f} s  hpc.resume --once: exit code {code}: {said}", flush=True)
        if code in (EXIT_CODES["stuck"], EXIT_CODES["quarantined"], USAGE):
            why = f"in quarantine: {', '.join(healthy)}" if code == EXIT_CODES["quarantined"] else said.strip()
            self._blame(f"exit code {code}: {why}", said)
            self._retry = True
            self.code = EXIT_CODES["running"]

    def _blame(self, why: str, said: str) -> None:
        """Note at the fault that was to blame that manual action was needed."""
        if self.tried:
            number = to_blame([one.kind for one in self.tried], said)
            self.tried[number] = msgspec.structs.replace(self.tried[number], person=why)

    def _quarantine(self) -> set[str]:
        """By the last whole line of the history: a full disk may have cut others."""
        for line in reversed((self._lab.run.output / ".run" / "history.jsonl").read_text(errors="replace").splitlines()):
            with suppress(msgspec.DecodeError):
                return set(msgspec.json.decode(line, type=dict[str, Any])["quarantine"])
        return set()
