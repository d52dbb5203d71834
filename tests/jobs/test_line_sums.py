"""jobs/line_sums.py: which lines of a file are those that were written there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jobs.fileops import FileOps
from jobs.line_sums import DAMAGED, LineSum, SumFile, SumsCheck, line_sum, read_sums, sum_entry

LINES = [b"a\n", b"bb\n", b"ccc\n"]


def sums_of(lines: list[bytes]) -> list[LineSum]:
    return [line_sum(len(text), hashlib.sha256(text)) for text in (b"".join(lines[: n + 1]) for n in range(len(lines)))]


def verdicts(lines: list[bytes], *sums: list[LineSum]) -> list[bool | None]:
    check = SumsCheck(sums)
    return [check.passes(line) for line in lines]


def test_what_is_entered_is_read_back(tmp_path: Path) -> None:
    """An entry per line, in order; no file is no entries."""
    assert read_sums(tmp_path / "none") == []
    file = SumFile(tmp_path / "sums", FileOps())
    for found in sums_of(LINES):
        file.add(found)
    file.sync()
    file.close()
    assert read_sums(tmp_path / "sums") == sums_of(LINES)


@pytest.mark.parametrize(
    ("tail", "read"),
    [
        (b"9 0123", []),
        (b"9 0123\n", [DAMAGED]),
        (b"9 0123\n10 " + b"0" * 32 + b"\n", [DAMAGED]),
        (b"\0" * 50, []),
        (b"\0" * 50 + b"\n", [DAMAGED]),
        (b"10 " + b"0" * 32 + b"\r\n", [DAMAGED]),
    ],
)
def test_an_entry_that_was_being_written_is_none_and_a_damaged_one_fits_no_line(
    tail: bytes, read: list[LineSum], tmp_path: Path
) -> None:
    """The first is what a kill leaves; after the second nothing is known to be right."""
    sums = sums_of(LINES)
    (tmp_path / "sums").write_bytes(b"".join(map(sum_entry, sums)) + tail)
    assert read_sums(tmp_path / "sums") == sums + read


def test_a_line_is_judged_by_the_sums_that_speak_of_it() -> None:
    """Those that fit all lines before; of a line after their end they know nothing, and neither do none."""
    assert verdicts(LINES, sums_of(LINES)) == [True, True, True]
    assert verdicts(LINES, sums_of(LINES)[:2]) == [True, True, None]
    assert verdicts(LINES) == [None, None, None]
    assert verdicts([b"a\n", b"bX\n"], sums_of(LINES)) == [True, False]
    assert verdicts([b"a\r\n"], sums_of(LINES)) == [False]
    assert verdicts([b"a\n", b"ccc\n"], sums_of(LINES)) == [True, False]


def test_of_the_sums_of_several_attempts_those_that_fit_are_believed() -> None:
    """One whose lines named the tar by another path says nothing; one that ends where another one objects saves no line."""
    moved = sums_of([b"A\n", b"BB\n"])
    assert verdicts(LINES, moved, sums_of(LINES)) == [True, True, True]
    assert verdicts(LINES, moved, sums_of(LINES)[:1]) == [True, None, None]
    assert verdicts([b"a\n", b"bX\n"], sums_of(LINES)[:1], sums_of(LINES)) == [True, False]


def test_the_check_knows_what_it_has_seen() -> None:
    """How far the lines were right, and the hash of all of them."""
    check = SumsCheck([sums_of(LINES)])
    for line in LINES[:2]:
        check.passes(line)
    assert (check.lines, check.contradicted, check.last) == (2, False, sums_of(LINES)[1])
    assert check.sha256 == hashlib.sha256(b"a\nbb\n").hexdigest()
    check.passes(b"X\n")
    assert (check.lines, check.contradicted) == (2, True)
