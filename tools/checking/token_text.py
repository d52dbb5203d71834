"""Pure: the report on a run's tokens as text."""

from __future__ import annotations

import textwrap

from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from tools.checking.token_report import CodebookReport, SequenceReport, StretchReport, TokenReport

__all__ = ["render_tokens"]

HEADINGS = ("codebook", "used", "dead", "entropy", "repeated", "longest stretch of one token")
NAME_CHARACTERS = 60
WIDTH = 100
DAMAGED_SHOWN = 5


def render_tokens(report: TokenReport) -> list[str]:
    """The lines below the report on progress."""
    about = f"{counted(report.clips, 'clip')} of {counted(report.tars, 'tar')}, {report.audio_hours:,.2f} audio-hours"
    if report.characters_per_second is not None:
        about += f"; transcripts have {report.characters_per_second:.1f} characters per second"
    lines = ["", f"Tokens of {about}"]
    for sequence in report.sequences:
        lines += ["", *_sequence_lines(sequence)]
    if report.tars and not report.sequences:
        why = "No key of the records has tokens: floats are not counted." if report.clips else "No clip has tokens."
        lines += ["", why]
    if report.not_counted:
        words = f"{counted(report.not_counted, 'tar')} of a version that did not count tokens"
        lines += ["", f"Not counted: {words}; --tokens with --check-validity counts their lines"]
    if report.damaged:
        lines += ["", f"Statistics that cannot be read, of {counted(len(report.damaged), 'tar')}:"]
        lines += [f"  {plain(name)}: {plain(why)}" for name, why in list(report.damaged.items())[:DAMAGED_SHOWN]]
    lines.append("")
    for warning in report.warnings:
        lines += textwrap.wrap(
            plain(f"{warning.sequence}: {warning.words}"), WIDTH, initial_indent="warning: ", subsequent_indent="         "
        )
        lines += textwrap.wrap(f"{warning.advice}.", WIDTH, initial_indent="         ", subsequent_indent="         ")
    if report.sequences:
        compared = f"{counted(report.tars_compared, 'tar')} and {counted(report.devices_compared, 'device')}"
        lines.append(f"Warnings about tokens: {len(report.warnings) or 'none'}. Compared with each other: {compared}.")
    return lines


def _sequence_lines(found: SequenceReport) -> list[str]:
    """A heading and a line per codebook."""
    about = [f"{counted(len(found.codebooks), 'codebook')} of {found.size:,} ids", f"{found.items:,} tokens each"]
    if found.items_per_second is not None:
        about.append(f"{found.items_per_second:g} per second")
        about.append(f"{100 * found.still_share:.2f}% still")
    if found.items_per_character is not None:
        about.append(f"{found.items_per_character:.2f} per character of text")
    if found.still_clips:
        about.append(f"{counted(found.still_clips, 'clip')} without any change")
    rows = [HEADINGS, *(_row(k, codebook, found) for k, codebook in enumerate(found.codebooks))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{plain(found.key)}: {', '.join(about)}"]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("  ".join(["", *cells, row[-1]]))
    if found.rounded:
        lines.append("  (entropy is of rounded counts, by less than 0.1 bits)")
    if found.left_out:
        lines.append("  (of some tars only the more frequent ids are known: more may be used)")
    return lines


def _row(k: int, found: CodebookReport, sequence: SequenceReport) -> tuple[str, ...]:
    least = ">= " if sequence.left_out else ""
    return (
        str(k),
        f"{least}{found.used:,}",
        f"{'<= ' if least else ''}{found.dead:,}",
        f"{found.entropy:.2f} bits",
        f"{100 * found.repeated_share:.1f}%",
        _stretch(found.longest),
    )


def _stretch(found: StretchReport | None) -> str:
    if found is None:
        return "none"
    clip = found.clip if len(found.clip) <= NAME_CHARACTERS else f"...{found.clip[-NAME_CHARACTERS:]}"
    length = f"{found.items:,}" if found.seconds is None else f"{found.seconds:,.2f} s"
    return plain(f"{length} of {found.token} in {found.tar}: {clip} (line {found.line})")
