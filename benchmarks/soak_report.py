"""Pure: what a soak has shown: which committed bytes are wrong, which faults that was, and one table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from benchmarks.soak_plan import KINDS, TIME_LIMIT
from hpc.rounds import EXIT_CODES

__all__ = ["Ended", "Result", "Row", "Tried", "bytes_lost", "in_words", "rows_of", "table", "to_blame"]

FINISHED = (EXIT_CODES["finished"], EXIT_CODES["quarantined"])


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that was tried."""

    at_s: float
    kind: str
    what: str
    """Whom it hit."""
    tars: tuple[str, ...] = ()
    """Those that were in hand there."""
    person: str = ""
    """Why a person was needed after it, and before the next fault; empty if none was."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended, beside that of an undisturbed process."""

    lost: dict[str, int]
    """Tar -> bytes of its reference that are not in its committed file, for each tar that is not as it should be."""
    verdicts: dict[str, str]
    """Tar -> why it cannot be committed, in the run's own words."""
    wrong_verdicts: dict[str, str]
    """Tar -> what was found where the undisturbed process had another verdict."""
    time_limits: int
    """Tasks that worked until their time was up."""
    exit_code: int
    """Of the last round of hpc.resume."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole soak, as its JSON has it."""

    seed: int
    seconds: float
    """Of faults."""
    finished_s: float
    """After the beginning."""
    tars: int
    clips: int
    submissions: int
    rounds: dict[str, int]
    """Exit code of hpc.resume --once -> how often."""
    tried: list[Tried]
    ended: Ended
    words: list[str]
    """What rounds said that did not just go on."""
    rows: list[Row]

    @property
    def well(self) -> bool:
        """No byte is lost, no verdict is another, nobody was needed, and the run is finished."""
        right = not self.ended.lost and not self.ended.wrong_verdicts and self.ended.exit_code in FINISHED
        return right and not any(one.person for one in self.tried)


class Row(msgspec.Struct, frozen=True):
    """A line of the table."""

    kind: str
    tried: int
    survived: int
    bytes_lost: int
    person: int


def bytes_lost(reference: Mapping[str, bytes], found: Mapping[str, bytes]) -> dict[str, int]:
    """File -> bytes of the reference that are missing or other, with those that are too much; equal files are left out."""
    lost = {}
    for name in sorted(reference.keys() | found.keys()):
        wanted, there = reference.get(name, b""), found.get(name, b"")
        if wanted != there:
            lost[name] = abs(len(wanted) - len(there)) + sum(a != b for a, b in zip(wanted, there, strict=False))
    return lost


def to_blame(kinds: Sequence[str], said: str) -> int:
    """Which of the faults so far, oldest first, was it after which a round said that: the last one of a kind whose words
    are in it, or else the last one.
    """
    known = [number for number, kind in enumerate(kinds) if (words := KINDS[kind].says) and words in said]
    return known[-1] if known else len(kinds) - 1


def rows_of(kinds: Collection[str], tried: Sequence[Tried], ended: Ended) -> list[Row]:
    """A row per kind, tried or not, and the sum. A loss counts against each fault that had the tar in hand.

    A loss that nobody had in hand counts in the sum alone, so that it is never hidden.
    """
    rows = []
    for kind in kinds:
        mine = [one for one in tried if one.kind == kind]
        bad = [one for one in mine if one.person or not ended.lost.keys().isdisjoint(one.tars)]
        hit = {name for one in mine for name in one.tars}
        lost = sum(count for name, count in ended.lost.items() if name in hit)
        rows.append(Row(kind, len(mine), len(mine) - len(bad), lost, sum(bool(one.person) for one in mine)))
    well = not ended.lost and not ended.wrong_verdicts
    rows.append(Row(TIME_LIMIT, ended.time_limits, ended.time_limits if well else 0, 0, 0))
    survived, persons = sum(row.survived for row in rows), sum(row.person for row in rows)
    rows.append(Row("all", sum(row.tried for row in rows), survived, sum(ended.lost.values()), persons))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows for people, as Markdown, so that a page can quote them."""
    lines = ["| fault | tried | survived | bytes lost | a person was needed |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        survived = row.survived if row.tried else "not tried"
        lines.append(f"| {row.kind} | {row.tried} | {survived} | {row.bytes_lost} | {row.person} |")
    return "\n".join(lines)


def in_words(result: Result) -> str:
    """The table, and all that is wrong."""
    ended = result.ended
    lines = [
        table(result.rows),
        f"{result.tars} tars, {len(ended.verdicts)} of them with a verdict; hpc.resume ended with {ended.exit_code}",
    ]
    needed = [one for one in result.tried if one.person]
    lines += [f"a person was needed at {one.at_s:.0f} s, after: {one.kind} ({one.what}): {one.person}" for one in needed]
    lines += [f"{name}: {count} bytes are not those of the undisturbed run" for name, count in ended.lost.items()]
    for name, words in ended.wrong_verdicts.items():
        lines.append(f"{name}: another verdict than the undisturbed run's: {words or 'none'}")
    return "\n".join(lines)
