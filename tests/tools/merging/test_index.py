"""tools/merging/index.py: what an index says of a file, and when it is not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.committed_runs import make_run, some_records

from audio_tokenizers.errors import UsageError
from tools.merging.index import Entry, Header, Index, MergePaths, common_prefix, encode_lines, read_index, reusable
from tools.merging.members import Made

HEADER = Header(None, "gz")
ENTRIES = tuple(
    Entry(name=f"{number}", tar=f"/d/{number}.tar", sha256="ab" * 32, lines=number, left_out={"decode": 1}, end=end)
    for number, end in ((1, 10), (2, 10), (3, 25))
)


def written(folder: Path, data: bytes, size: int = 25) -> Index | None:
    """What is read of an index of these bytes, of a file of `size` bytes."""
    (folder / "index").write_bytes(data)
    (folder / "file").write_bytes(b"x" * size)
    return read_index(folder / "index", folder / "file")


def test_read_as_written(tmp_path: Path) -> None:
    """An index is read as it was written, and vouches for a file that ends where its last entry does."""
    assert written(tmp_path, encode_lines([HEADER, *ENTRIES])) == Index(HEADER, ENTRIES, whole=True)


@pytest.mark.parametrize(("size", "entries"), [(26, 3), (24, 2), (10, 2), (9, 0), (0, 0)])
def test_a_file_of_another_size(tmp_path: Path, size: int, entries: int) -> None:
    """Entries count up to where the file ends; it vouches for nothing then."""
    assert written(tmp_path, encode_lines([HEADER, *ENTRIES]), size) == Index(HEADER, ENTRIES[:entries], whole=False)


def test_an_index_that_a_crash_has_cut(tmp_path: Path) -> None:
    """Cut at any byte, its whole lines count, and it vouches for no file any more."""
    data = encode_lines([HEADER, *ENTRIES])
    written(tmp_path, data)
    for size in reversed(range(len(data))):
        os.truncate(tmp_path / "index", size)
        lines = data[:size].count(b"\n")
        expected = Index(HEADER, ENTRIES[: lines - 1], whole=False) if lines else None
        assert read_index(tmp_path / "index", tmp_path / "file") == expected


@pytest.mark.parametrize("line", [b"\0" * 8, b"{}", b"\xff", b'{"name":"4","tar":"a","sha256":"b","lines":1,"end":9}'])
def test_lines_that_are_no_entries(tmp_path: Path, line: bytes) -> None:
    """What follows a line that is no entry, or that goes back, is not believed."""
    data = encode_lines([HEADER, *ENTRIES[:2]]) + line + b"\n" + encode_lines(ENTRIES[2:])
    assert written(tmp_path, data) == Index(HEADER, ENTRIES[:2], whole=False)


@pytest.mark.parametrize("data", [b"", b"words\n", b'{"shape":null,"compression":"gz","format":2}\n'])
def test_what_is_no_index(tmp_path: Path, data: bytes) -> None:
    """Another file, or one of a later version, is no index."""
    assert written(tmp_path, data) is None
    assert read_index(tmp_path / "none", tmp_path / "file") is None
    assert read_index(tmp_path / "index", tmp_path / "none") is None


def test_what_of_it_still_holds(tmp_path: Path) -> None:
    """The first entries count whose files are the same, by name and hash; the others can be used wherever they stand."""
    files = make_run(tmp_path / "tokens", {str(n): some_records(n) for n in range(4)})
    entries = [Entry.of(file, Made(4), end=10 * n + 10) for n, file in enumerate(files)]
    assert common_prefix(entries, files) == tuple(entries)
    assert common_prefix(entries, files[:2]) == tuple(entries[:2])
    assert common_prefix(entries[:1], files) == tuple(entries[:1])
    assert common_prefix(entries, [files[0], *files[2:]]) == (entries[0],)
    changed = make_run(tmp_path / "tokens", {"1": some_records(9)})
    assert common_prefix(entries, changed) == (entries[0],)
    found = reusable(Index(HEADER, tuple(entries), whole=True))
    assert found["2", files[2].manifest.output_sha256] == (20, entries[2])
    assert ("1", changed[1].manifest.output_sha256) not in found
    assert reusable(None) == {}


@pytest.mark.parametrize(("name", "compression"), [("a.jsonl", "plain"), ("a.jsonl.gz", "gz"), ("a.b.zst", "zst")])
def test_the_name_says_the_compression(name: str, compression: str) -> None:
    """Its end does."""
    assert MergePaths(Path(name)).compression == compression


@pytest.mark.parametrize("name", ["a.json", "a.jsonl.bz2", "a", ".gz", "a.GZ"])
def test_names_that_do_not(name: str) -> None:
    """Nothing is guessed: the message says what a name may end in."""
    with pytest.raises(UsageError, match=r"expected a name that ends in \.jsonl, \.gz, \.zst"):
        _ = MergePaths(Path(name)).compression


def test_litter_is_ours_alone(tmp_path: Path) -> None:
    """What may be removed is what a merge into this very name has left, and no neighbour's file."""
    paths = MergePaths(tmp_path / "a[1].gz")
    unique = "0123456789ab"
    ours = [paths.part("x", 3), *(tmp_path / f".{name}.{unique}" for name in ("a[1].gz.index", ".a[1].gz.claim"))]
    ours.append(tmp_path / f"..a[1].gz.partial.index.{unique}")
    others = [paths.output, paths.index, paths.partial, paths.partial_index, paths.claim]
    others += [tmp_path / name for name in ("a1.gz", ".a1.gz.part-x-000003", "b.gz", ".a[1].gz.index.old")]
    for path in (*ours, *others):
        path.touch()
    assert sorted(paths.litter()) == sorted(ours)
