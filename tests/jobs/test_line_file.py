"""jobs/line_file.py: which lines of a file that a worker left can be used."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from audio_tokenizers.base import Field
from jobs.line_file import ReusableLines, good_lines
from jobs.line_sums import SumsCheck
from jobs.records import ErrorRecord, TokenRecord, encode_record

GOOD = encode_record(
    TokenRecord(
        tar_file="t",
        audio_file="a.wav",
        num_samples=9,
        sample_rate=8000,
        values={"tokens": msgspec.Raw(b"[[1,2],[3,4]]"), "token_shape": msgspec.Raw(b"[2,2]")},
    )
)
FIELDS = (Field(name="tokens", form="codes", width=2, codebook_size=5),)
BAD = encode_record(ErrorRecord(tar_file="t", audio_file="b.wav", error="no", error_kind="empty"))


@pytest.mark.parametrize(
    "after", [b"", b"{", GOOD, GOOD.replace(b"4", b"9"), b"\xff\n", GOOD.replace(b"4", b"9") + b"\n" + GOOD + b"\n"]
)
def test_the_good_lines_are_those_before_the_first_that_is_not(after: bytes) -> None:
    """A torn line, one that is no record and one with a token out of range end what can be used."""
    lines = (GOOD + b"\n" + BAD + b"\n" + after).splitlines(keepends=True)
    assert [line for line, _ in good_lines(lines, FIELDS)] == [GOOD, BAD]


def test_lines_with_tokens_are_found_by_number_and_name(tmp_path: Path) -> None:
    """A line is used for the clip that it names and no other; one with an error is not; removing the file takes nothing."""
    path = tmp_path / "a.jsonl.previous"
    path.write_bytes(BAD + b"\n" + GOOD + b"\n")
    lines = ReusableLines(path, FIELDS, SumsCheck())
    path.unlink()
    assert lines.line(1, "a.wav") == GOOD
    assert lines.line(1, "b.wav") is None
    assert lines.line(0, "b.wav") is None
    assert lines.line(2, "a.wav") is None
    lines.close()


def test_without_a_file_there_is_nothing_to_use(tmp_path: Path) -> None:
    """Most tars are tokenized for the first time."""
    lines = ReusableLines(tmp_path / "none", FIELDS, SumsCheck())
    assert lines.line(0, "a.wav") is None
    lines.close()
