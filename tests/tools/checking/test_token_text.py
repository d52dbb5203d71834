"""tools/checking/token_report.py and token_text.py: the figures of a run's tokens, for programs and for people."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.token_runs import speech, statistics_of

from audio_tokenizers.base import Field
from jobs.token_statistics import LongestStretch, TokenStatistics
from tools.checking.token_report import TokenReport, report_tokens
from tools.checking.token_text import render_tokens
from tools.checking.token_totals import Device, TokenTotals


def totals_of(*tars: TokenStatistics) -> TokenTotals:
    totals = TokenTotals()
    for number, found in enumerate(tars):
        totals.add(f"tar {number}", found, Device("n1", "H100", "GPU-1"))
    return totals


def text_of(report: TokenReport) -> str:
    return "\n".join(render_tokens(report))


def test_figures_of_a_codebook() -> None:
    """Used and dead ids, entropy, repeats by the tokens that could repeat one, and the longest stretch with its place."""
    first = statistics_of([np.array([[0, 1, 2, 3], [5, 5, 5, 5]]), np.array([[7, 7], [5, 6]])])
    totals = totals_of(statistics_of([np.array([[9], [9]])]), first)
    report = report_tokens(totals)
    (sequence,) = report.sequences
    assert (report.tars, report.clips, sequence.items, sequence.items_per_second) == (2, 3, 7, 25.0)
    one, two = sequence.codebooks
    assert (one.used, one.dead, one.repeated_share) == (6, 58, 0.25)
    assert (two.used, two.entropy, two.repeated_share) == (3, 1.1488, 0.75)
    assert two.longest is not None
    assert (two.longest.tar, two.longest.clip, two.longest.line, two.longest.token) == ("tar 1", "0.wav", 1, 5)
    assert (two.longest.items, two.longest.seconds) == (4, 0.16)
    assert [(device.node, device.gpu, device.tars) for device in report.devices] == [("n1", "GPU-1", 2)]


def test_text_has_a_table_per_key() -> None:
    """A line per codebook, under the key's rate and size."""
    lines = render_tokens(report_tokens(totals_of(statistics_of([np.array([[0, 1, 2, 3], [5, 5, 5, 5]])]))))
    assert lines[1].startswith("Tokens of 1 clip of 1 tar, 0.00 audio-hours")
    assert lines[3] == "tokens: 2 codebooks of 64 ids, 4 tokens each, 25 per second, 0.00% still"
    assert " ".join(lines[4].split()) == "codebook used dead entropy repeated longest stretch of one token"
    assert lines[6].split()[:6] == ["1", "1", "63", "0.00", "bits", "100.0%"]
    assert lines[6].endswith("0.16 s of 5 in tar 0: 0.wav (line 1)")
    assert lines[-1] == "Warnings about tokens: none. Compared with each other: 0 tars and 0 devices."


def test_rates_by_text() -> None:
    """Characters per second, and frames per character."""
    found = statistics_of([speech(0, 500)])
    report = report_tokens(totals_of(msgspec.structs.replace(found, text_clips=1, text_characters=250, text_seconds=20.0)))
    assert (report.characters_per_second, report.sequences[0].items_per_character) == (12.5, 2.0)
    assert "12.5 characters per second" in text_of(report)
    assert "2.00 per character of text" in text_of(report)


def test_warnings_come_with_advice() -> None:
    """Each says what to look at."""
    totals = totals_of(*(statistics_of([speech(number)]) for number in range(8)), statistics_of([np.full((2, 3000), 1)]))
    report = report_tokens(totals)
    text = text_of(report)
    assert [warning.kind for warning in report.warnings] == ["collapse", "constant"]
    assert "warning: tokens: 1 tar with far less entropy than the others: tar 8" in text
    assert "Listen to some clips" in text
    assert "Warnings about tokens: 2. Compared with each other: 9 tars and 0 devices." in text


def test_names_out_of_tars_cannot_write_to_the_terminal() -> None:
    """Control characters are escaped, and long names are cut."""
    name = "\x1b]0;owned\x07" + "x" * 150 + "\n.wav"
    found = statistics_of([np.full((2, 3000), 1)])
    sequence = found.sequences["tokens"]
    longest = LongestStretch(items=3000, token=1, clip=0, name=name)
    hostile = tuple(msgspec.structs.replace(one, longest=longest) for one in sequence.codebooks)
    changed = msgspec.structs.replace(sequence, codebooks=hostile)
    text = text_of(report_tokens(totals_of(msgspec.structs.replace(found, sequences={"tok\x1b[2Jens": changed}))))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "x" * 20 in text


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (None, "Not counted: 1 tar of a version that did not count tokens"),
        (TokenStatistics(clips=1), "floats are not counted"),
        (TokenStatistics(), "No clip has tokens."),
    ],
)
def test_what_is_missing_is_said(counted: TokenStatistics | None, words: str) -> None:
    """Rather than shown as zeros."""
    totals = TokenTotals()
    totals.add("a", counted)
    assert words in text_of(report_tokens(totals))


def test_large_vocabularies_say_what_they_do_not_know() -> None:
    """Rare ids of text tokens are not in a manifest: at least so many are used."""
    counts = np.random.default_rng(0).multinomial(400_000, np.random.default_rng(1).dirichlet(np.full(150_000, 0.02)))
    codes = np.repeat(np.arange(150_000), counts)[np.newaxis]
    field = Field(name="text_tokens", form="list", codebook_size=150_000)
    report = report_tokens(totals_of(statistics_of([codes], field)))
    assert (report.sequences[0].rounded, report.sequences[0].left_out) == (True, True)
    text = text_of(report)
    assert ">= " in text
    assert "more may be used" in text


def test_damaged_statistics_are_listed() -> None:
    """By the tar's name."""
    totals = totals_of(statistics_of([speech(0)]))
    totals.damaged["bad\x1b"] = "what is wrong"
    assert "  bad\\x1b: what is wrong" in render_tokens(report_tokens(totals))
