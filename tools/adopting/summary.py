"""Pure: the result of an adoption, as text."""

from __future__ import annotations

from pathlib import Path

from audio_tokenizers.shared.wording import counted
from tools.adopting.adoption import Adoption
from tools.adopting.judging import REASONS
from tools.adopting.old_lines import TOOLS

__all__ = ["render"]

SHOWN = 120
"""Characters of an example."""
PROBLEMS_SHOWN = 20


def render(found: Adoption, old: Path, *, dry_run: bool) -> str:
    """How many clips were adopted, which are made again and why, with an example of each kind."""
    hours, committed = found.adopted_seconds / 3600, "" if dry_run else f", {found.committed:,} committed"
    lines = [
        f"{old}: {counted(found.lines, 'line')} of {TOOLS[found.kind]} in {counted(found.files, 'file')}",
        f"Adopted:     {counted(found.adopted, 'clip')} ({hours:.3f} h) of {counted(found.tars, 'tar')}{committed}",
    ]
    again = found.made_again.total()
    lines.append(f"Made again:  {counted(again, 'clip')}" + (", by the run" if again else ""))
    for reason, number in sorted(found.made_again.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"  {number:,} {REASONS[reason]}, such as {_cut(found.examples[reason])}")
    if found.there:
        lines.append(f"There:       {counted(found.there, 'clip')} with a line in the run before")
    if found.left_alone:
        lines.append(f"Left alone:  {counted(found.left_alone, 'tar')} committed before")
    if found.without_lines:
        lines.append(f"No line:     {counted(found.without_lines, 'tar')}, for the run")
    if found.faulty_lines or found.unused_lines:
        lines.append(
            f"Not used:    {counted(found.faulty_lines, 'line')} that cannot be read or are of another tool or tar, "
            f"{found.unused_lines:,} of no clip that was looked for"
        )
        lines += [f"  {_cut(example)}" for example in found.line_examples]
    if found.problems:
        lines.append(f"Problems:    {counted(len(found.problems), 'tar')}, left to the run")
        lines += [f"  {problem}" for problem in found.problems[:PROBLEMS_SHOWN]]
        rest = len(found.problems) - PROBLEMS_SHOWN
        lines += [f"  and {rest:,} more"] if rest > 0 else []
    return "\n".join(lines)


def _cut(example: str) -> str:
    """One line of bounded length: old lines may hold anything."""
    words = " ".join(example.split())
    return words if len(words) <= SHOWN else words[:SHOWN] + "..."
