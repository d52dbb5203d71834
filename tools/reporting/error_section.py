"""Pure: what went wrong in a run, as a section of the page."""

from __future__ import annotations

from collections.abc import Iterable

from audio_tokenizers.shared.wording import counted
from jobs.channels import describe_note
from jobs.plain_text import plain
from tools.reporting.facts import RunFacts
from tools.reporting.model import Section, Table, text_cell, value_cell
from tools.reporting.units import percent

__all__ = ["error_section"]

ROWS = 100
"""Of a table that has one per tar."""


def error_section(facts: RunFacts) -> Section:
    """Clips with errors or damage by kind, and tries and tars by reason."""
    totals = facts.totals
    tables = []
    clips = max(totals.clips, 1)
    if totals.errors:
        rows = [
            (
                text_cell(kind),
                value_cell(count, f"{count:,}"),
                value_cell(count / clips, percent(count / clips)),
                text_cell(
                    _examples((each.tar_file, each.audio_file, each.error) for each in facts.error_examples.get(kind, ()))
                ),
            )
            for kind, count in totals.errors.items()
        ]
        tables.append(
            Table(
                f"Clips with errors, in {counted(totals.error_tars, 'tar')}",
                ("kind", "clips", "share", "examples"),
                rows,
                frozenset({1, 2}),
            )
        )
    if totals.damaged_clips:
        examples = _examples(
            (each.tar_file, each.audio_file, f"{each.damage.seconds:,.3f} s: {each.damage.what}")
            for each in facts.damaged_examples
            if each.damage
        )
        cells = (
            value_cell(totals.damaged_clips, f"{totals.damaged_clips:,}"),
            value_cell(totals.damaged_seconds),
            text_cell(examples),
        )
        tables.append(
            Table("Clips kept though damaged", ("clips", "seconds missing", "examples"), [cells], frozenset({0, 1}))
        )
    if totals.notes:
        rows_notes = [
            (value_cell(count, f"{count:,}"), text_cell(plain(describe_note(note)))) for note, count in totals.notes.items()
        ]
        tables.append(Table("Notes", ("clips", "that"), rows_notes, frozenset({0})))
    if facts.failures:
        tables.append(
            Table(
                "Tries that failed, by reason",
                ("tars", "reason", "for example", "nodes"),
                [
                    (
                        value_cell(each.tars, f"{each.tars:,}"),
                        text_cell(each.reason),
                        text_cell(", ".join(each.examples)),
                        text_cell(", ".join(each.nodes) or "-"),
                    )
                    for each in facts.failures
                ],
                frozenset({0}),
            )
        )
    for caption, reasons, count in (
        ("Tars in quarantine", facts.quarantine, len(facts.quarantine)),
        ("Tars that are invalid or not there", facts.invalid, facts.invalid_tars),
    ):
        if reasons:
            rows_why = [(text_cell(plain(name)), text_cell(plain(why))) for name, why in list(reasons.items())[:ROWS]]
            more = f"The first {len(rows_why)} of {count:,}." if count > len(rows_why) else ""
            tables.append(Table(caption, ("tar", "why"), rows_why, more=more))
    return Section(
        "errors", "Errors and damage", tables=tables, empty="No clip has an error, and nothing failed." if not tables else ""
    )


def _examples(clips: Iterable[tuple[str, str, str]]) -> str:
    return "\n".join(f"{plain(tar.rpartition('/')[2])}: {plain(audio)}: {plain(why)}" for tar, audio, why in clips) or "-"
