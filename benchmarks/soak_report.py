"""Pure: the result of a soak: which committed bytes are wrong, which faults are to blame, and a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from benchmarks.soak_plan import KINDS, TIME_LIMIT
from hpc.rounds import EXIT_CODES

__all__ = ["Ended", "Result", "Row", "Tried", "as_text", "bytes_lost", "rows_of", "table", "to_blame"]

FINISHED = (EXIT_CODES["finished"], EXIT_CODES["quarantined"])


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that was tried."""

    at_s: float
    kind: str
    what: str
    """What it hit."""
    tars: tuple[str, ...] = ()
    """Tars that were being worked on there."""
    person: str = ""
    """Why manual action was needed between this fault and the next; empty if none was."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended, compared with an undisturbed run."""

    lost: dict[str, int]
    """Tar -> bytes in which its committed file differs from the reference; equal files are left out."""
    verdicts: dict[str, str]
    """Tar -> the run's reason why it cannot be committed."""
    wrong_verdicts: dict[str, str]
    """Tar -> the verdict, where the undisturbed run had another one."""
    time_limits: int
    """Tasks that ran into their time limit."""
    exit_code: int
    """Exit code of the last round of hpc.resume."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole soak, as stored in JSON."""

    seed: int
    seconds: float
    """How long faults were injected."""
    finished_s: float
    """Seconds from the beginning to the end of the run."""
    tars: int
    clips: int
    submissions: int
    rounds: dict[str, int]
    """Exit code of hpc.resume --once -> count."""
    tried: list[Tried]
    ended: Ended
    words: list[str]
    """Output of the rounds that did not simply continue."""
    rows: list[Row]

    @property
    def well(self) -> bool:
        """No byte is lost, no verdict differs, no manual action was needed, and the run is finished."""
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
    """File -> bytes that are missing, different or superfluous; equal files are left out."""
    lost = {}
    for name in sorted(reference.keys() | found.keys()):
        wanted, there = reference.get(name, b""), found.get(name, b"")
        if wanted != there:
            lost[name] = abs(len(wanted) - len(there)) + sum(a != b for a, b in zip(wanted, there, strict=False))
    return lost


def to_blame(kinds: Sequence[str], said: str) -> int:
    """The index of the fault, oldest first, that explains a round's output: the latest of a kind whose message is in it, or
    else the latest of all.
    """
    known = [number for number, kind in enumerate(kinds) if (words := KINDS[kind].says) and words in said]
    return known[-1] if known else len(kinds) - 1


def rows_of(kinds: Collection[str], tried: Sequence[Tried], ended: Ended) -> list[Row]:
    """A row per kind, tried or not, and the sum. A loss counts against each fault that hit a worker of that tar; a loss in
    no such tar still counts in the sum.
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
    """The rows as a Markdown table."""
    lines = ["| fault | tried | survived | bytes lost | manual actions |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        survived = row.survived if row.tried else "not tried"
        lines.append(f"| {row.kind} | {row.tried} | {survived} | {row.bytes_lost} | {row.person} |")
    return "\n".join(lines)


def as_text(result: Result) -> str:
    """The table, and everything that went wrong."""
    ended = result.ended
    lines = [
        table(result.rows),
        f"{result.tars} tars, {len(ended.verdicts)} of them quarantined; hpc.resume ended with {ended.exit_code}",
    ]
    needed = [one for one in result.tried if one.person]
    lines += [f"manual action needed at {one.at_s:.0f} s, after: {one.kind} ({one.what}): {one.person}" for one in needed]
    lines += [f"{name}: {count} bytes differ from the undisturbed run" for name, count in ended.lost.items()]
    for name, words in ended.wrong_verdicts.items():
        lines.append(f"{name}: the verdict differs from the undisturbed run's: {words or 'none'}")
    return "\n".join(lines)
