"""jobs/tar_paths.py: names of files, and which committed files are ours."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.small_run import small_tar, stopping_after, tokenize

from jobs.manifest import Manifest
from jobs.tar_paths import TarPaths, UntrustedFileError, committed_fault, read_manifest
from jobs.token_statistics import CommittedManifest, TokenStatistics


def test_a_manifest_is_read_up_to_the_statistics_of_its_tokens(tmp_path: Path) -> None:
    """They are most of it, and scans of 100,000 tars need none of them; whatever names and texts it has."""
    name = '/d/a.tar",\n  "tokens": {'
    for left_out in ({}, {f".{number}": number for number in range(2000)}):  # within the first bytes, and far beyond
        plain = Manifest(tar_file=name, input_bytes=1, input_mtime_ns=2, fingerprint="f", left_out=left_out)
        path = tmp_path / "a.json"
        for data in (msgspec.json.encode(plain), msgspec.json.format(msgspec.json.encode(plain))):
            path.write_bytes(data)
            assert read_manifest(path) == plain
        whole = CommittedManifest(**msgspec.structs.asdict(plain), tokens=TokenStatistics(clips=3))
        for data in (msgspec.json.encode(whole), msgspec.json.format(msgspec.json.encode(whole))):
            path.write_bytes(data)
            assert read_manifest(path) == plain
        for cut in (1, 4, 30):
            path.write_bytes(data[:-cut])
            with pytest.raises(UntrustedFileError):
                read_manifest(path)


@pytest.mark.parametrize(
    ("tar", "stem"),
    [
        ("000001.tar", "000001"),
        ("a.b.tar", "a.b"),
        ("x.tar.gz", "x"),
        ("x.TGZ", "x"),
        ("x.tar.zst", "x"),
        ("x.tzst", "x"),
        (".tar", ".tar"),
        ("noext", "noext"),
    ],
)
def test_an_output_is_named_after_its_tar(tar: str, stem: str) -> None:
    """The suffix goes, whatever its compression and case, and nothing else."""
    assert TarPaths.stem(Path("/in") / tar) == stem


def test_a_committed_file_is_ours_only_with_a_fitting_manifest(tmp_path: Path) -> None:
    """No manifest, an unfinished one, or another size: each has its own words, and none is trusted."""
    tar = small_tar(tmp_path / "a.tar")
    tokenize(tar, tmp_path / "out")
    paths = TarPaths(tmp_path / "out", "a")
    manifest = read_manifest(paths.manifest)
    assert committed_fault(paths, tar, manifest) is None
    moved = tar.with_name("b.tar")
    assert committed_fault(paths, moved, manifest) is None
    moved.write_bytes(tar.read_bytes() + bytes(512))
    assert "has changed since" in str(committed_fault(paths, moved, manifest))
    with paths.committed.open("ab") as file:
        file.write(b"x")
    assert "bytes, its manifest says" in str(committed_fault(paths, tar, manifest))
    assert "no manifest" in str(committed_fault(paths, tar, None))
    tokenize(tar, tmp_path / "other", **stopping_after(1))
    unfinished = read_manifest(TarPaths(tmp_path / "other", "a").attempt)
    assert "unfinished" in str(committed_fault(paths, tar, unfinished))
    with pytest.raises(FileNotFoundError):
        committed_fault(TarPaths(tmp_path / "out", "b"), tar, None)
