"""tools/adopting/summary.py: what was adopted, what is made again and why, in lines of bounded length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tools.adopting.adoption import Adoption
from tools.adopting.summary import render


def test_all_of_it() -> None:
    """The most frequent reason first, each with an example; problems are whole."""
    found = Adoption(
        "higgs",
        files=2,
        lines=1234,
        tars=3,
        committed=1,
        adopted=1200,
        adopted_seconds=7200,
        there=4,
        made_again=Counter({"error": 2, "no_line": 5}),
        examples={"error": "a.mp3 of 1.tar: CUDA\nerror " + "x" * 500, "no_line": "b.mp3 of 1.tar: no line names it"},
        faulty_lines=1,
        unused_lines=6,
        line_examples=["old/1.jsonl: line 3: not a JSON object"],
        left_alone=1,
        without_lines=2,
        problems=[f"{number}.tar: cut" for number in range(22)],
    )
    text = render(found, Path("old"), dry_run=False)
    assert text.startswith(
        "old: 1,234 lines of tokenize_audio.py (tokens of a codec) in 2 files\n"
        "Adopted:     1,200 clips (2.000 h) of 3 tars, 1 committed\n"
        "Made again:  7 clips, by the run\n"
        "  5 without a line, such as b.mp3 of 1.tar: no line names it\n"
        "  2 on which the older tool failed, such as a.mp3 of 1.tar: CUDA error xxx"
    )
    assert "There:       4 clips with a line in the run before\nLeft alone:  1 tar committed before\n" in text
    assert "No line:     2 tars, for the run\n" in text
    assert "of another tool or tar, 6 of no clip that was looked for\n  old/1.jsonl: line 3" in text
    assert text.endswith("  19.tar: cut\n  and 2 more")
    assert max(map(len, text.splitlines())) < 180


def test_nothing_but_good_lines() -> None:
    """No line about what there is not."""
    found = Adoption("bicodec", files=1, lines=1, tars=1, adopted=1, adopted_seconds=36, committed=1)
    assert render(found, Path("x"), dry_run=True).splitlines() == [
        "x: 1 line of extract_tar_tokens.py (BiCodec) in 1 file",
        "Adopted:     1 clip (0.010 h) of 1 tar",
        "Made again:  0 clips",
    ]
