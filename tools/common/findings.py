"""Findings of checks, as text and as JSON, and what commands that check have in common."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Literal

import msgspec
import typer

from audio_tokenizers.shared.wording import counted
from jobs.commands import SLURM, number_parser

__all__ = [
    "AsJson",
    "Finding",
    "Verdict",
    "Wait",
    "collect",
    "exit_code",
    "fault",
    "fine",
    "in_words",
    "show",
    "summary",
    "warning",
]

AsJson = Annotated[bool, typer.Option("--json", help="a JSON array, for programs")]
Wait = Annotated[
    float,
    typer.Option(
        parser=number_parser("seconds from 1 on, without a unit", 1),
        metavar="FLOAT",
        help="seconds to wait for free nodes",
        rich_help_panel=SLURM,
    ),
]

Verdict = Literal["ok", "warning", "fault"]
CHECK_WIDTH = 18
NARROWEST = 60
FAULT_EXIT = 1


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do; empty if nothing."""


def fine(check: str, found: str) -> Finding:
    """All is as it should be."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, advice: str) -> Finding:
    """A run would work, but not well; or the check had no answer."""
    return Finding(check, "warning", found, advice)


def fault(check: str, found: str, advice: str) -> Finding:
    """A run would fail, or could not keep its promises."""
    return Finding(check, "fault", found, advice)


def in_words(finding: Finding, width: int | None = None) -> str:
    """A finding in one line, wrapped for a terminal of `width` columns; the advice in lines of its own."""
    columns = max(NARROWEST, width or shutil.get_terminal_size((100, 24)).columns)
    lead = f"{finding.verdict:<8} {finding.check:<{CHECK_WIDTH}} "
    wrap = partial(textwrap.wrap, width=columns, break_on_hyphens=False, break_long_words=False)  # commands stay whole words
    text = wrap(finding.found, initial_indent=lead, subsequent_indent=" " * len(lead))
    if finding.advice:
        pad = " " * len(lead)
        text += wrap(finding.advice, initial_indent=f"{pad}-> ", subsequent_indent=f"{pad}   ")
    return "\n".join(text)


def collect(findings: Iterable[Finding], *, as_json: bool) -> list[Finding]:
    """All findings, each printed as soon as it is there, unless they become JSON."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            print(in_words(finding), flush=True)
    return found


def show(findings: Sequence[Finding], last_line: str, *, as_json: bool) -> None:
    """Print what `collect` has not: the last line, or all findings as JSON."""
    print(msgspec.json.format(msgspec.json.encode(findings)).decode() if as_json else last_line)


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    faults = sum(finding.verdict == "fault" for finding in findings)
    warnings = sum(finding.verdict == "warning" for finding in findings)
    words = f"{counted(faults, 'fault')}, {counted(warnings, 'warning')}" if faults or warnings else "all is well"
    return f"{counted(len(findings), 'check')}: {words}"


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if there is a fault, else 0. Warnings are no failure."""
    return FAULT_EXIT if any(finding.verdict == "fault" for finding in findings) else 0
