"""tools/adopting/old_files.py: every whole line of an old output, whatever became of the rest."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from support.runs import tree

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.adopting import old_files
from tools.adopting.old_files import FoundLine, OldFile, find_old_files, read_old_lines


def lines_of(path: Path, folder: Path) -> list[FoundLine]:
    return list(read_old_lines(OldFile(path, path.name.partition(".")[0]), folder / "plain"))


def test_known_files_are_found_in_natural_order(tmp_path: Path) -> None:
    """Plain, partial and gzip files of a folder and those below it; logs, sentinels and hidden files are none."""
    names = ["10.jsonl", "2.jsonl.partial", "s/shard-0.jsonl.gz", "s/shard-0.ok", ".2.jsonl.partial", "log.txt", ".jsonl"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_old_files(tmp_path)
    assert [file.path.name for file in found] == ["2.jsonl.partial", "10.jsonl", "shard-0.jsonl.gz"]
    assert [file.name for file in found] == ["2", "10", "shard-0"]
    assert find_old_files(tmp_path / "10.jsonl") == [OldFile(tmp_path / "10.jsonl", "10")]


def test_what_is_no_old_output_is_refused(tmp_path: Path) -> None:
    """Nothing there, a folder without such files, a file of another kind, and a run directory of ours."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "runs" / "tokens" / ".run").mkdir(parents=True)
    (tmp_path / "runs" / "tokens" / ".run" / "spec.yaml").touch()
    for name, words in {
        "nothing": "there is no such file or folder",
        "empty": "found none whose name ends in .jsonl, .jsonl.partial, .jsonl.gz",
        "notes.txt": "expected a name that ends in .jsonl",
        "runs": "a run directory of tar2tokens: its lines need no adoption",
    }.items():
        with pytest.raises(UsageError, match=words):
            find_old_files(tmp_path / name)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files would be missing without a word."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (tmp_path / "closed").mkdir()
    (tmp_path / "1.jsonl").touch()
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InfrastructureError, match="closed: cannot be read: Permission denied"):
        find_old_files(tmp_path)


def test_lines_and_their_places(tmp_path: Path) -> None:
    """Blank lines count and are left out; a cut line and half a character are lines like others; nothing is written."""
    data = b'{"a":1}\n\n  {"b":2} \r\n{"c":"\xe8\xaa'
    (tmp_path / "1.jsonl").write_bytes(data)
    before = tree(tmp_path)
    found = lines_of(tmp_path / "1.jsonl", tmp_path)
    assert [(line.number, line.data) for line in found] == [(1, b'{"a":1}'), (3, b'{"b":2}'), (4, b'{"c":"\xe8\xaa')]
    assert all(data[line.start : line.start + len(line.data)] == line.data for line in found)
    assert tree(tmp_path) == before


def test_a_line_that_never_ends_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault, and the next line stands where it stands."""
    monkeypatch.setattr(old_files, "LONGEST_LINE", 10)
    (tmp_path / "1.jsonl").write_bytes(b"x" * 25 + b"\n{}\n" + b"123456789\n")
    found = lines_of(tmp_path / "1.jsonl", tmp_path)
    assert [(line.number, line.start, line.data, line.fault) for line in found] == [
        (1, 0, b"", "a line of 26 bytes"),
        (2, 26, b"{}", ""),
        (3, 29, b"123456789", ""),
    ]


def test_gzip_members_that_were_joined(tmp_path: Path) -> None:
    """`cat shard-*.jsonl.gz` makes several members; the plain bytes are kept, for the lines to be found again."""
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress(b"{}\n[") + gzip.compress(b"]\n") + b"\0" * 512)
    found = lines_of(tmp_path / "all.jsonl.gz", tmp_path)
    assert [line.data for line in found] == [b"{}", b"[]"]
    assert (tmp_path / "plain").read_bytes() == b"{}\n[]\n"


@pytest.mark.parametrize("damage", ["cut", "damaged"])
def test_a_gzip_file_that_is_damaged_gives_what_comes_before(damage: str, tmp_path: Path) -> None:
    """A shard that was never finished: whole lines are used. A damaged member may hold wrong digits: none of it is used."""
    first, second = (
        [b'{"id":%d,"x":"%x"}' % (number, number**9) for number in range(*some)] for some in ((100,), (100, 3000))
    )
    packed = bytearray(gzip.compress(b"\n".join(first) + b"\n"))
    start = len(packed)
    packed += gzip.compress(b"\n".join(second))
    middle = (start + len(packed)) // 2
    if damage == "cut":
        del packed[middle:]
    else:
        packed[middle] ^= 1
    (tmp_path / "shard.jsonl.gz").write_bytes(packed)
    *found, fault = lines_of(tmp_path / "shard.jsonl.gz", tmp_path)
    assert fault.fault.startswith(f"its gzip data are {damage}")
    expected = first if damage == "damaged" else [*first, *second][: len(found) - 1]
    assert [line.data for line in found][: len(expected)] == expected
    assert len(found) == 100 if damage == "damaged" else len(found) > 1000


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """One message that names it."""
    with pytest.raises(InfrastructureError, match=r"gone\.jsonl: cannot be read: No such file"):
        lines_of(tmp_path / "gone.jsonl", tmp_path)
