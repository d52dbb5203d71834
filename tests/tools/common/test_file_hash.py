"""tools/common/file_hash.py: a digest of a file."""

from __future__ import annotations

from pathlib import Path

from tools.common.file_hash import hash_file


def test_git_names_a_blob_so(tmp_path: Path) -> None:
    """The hub knows small files by git's hash: the empty blob's is known to everyone."""
    (tmp_path / "empty").touch()
    assert hash_file(tmp_path / "empty", "sha1", b"blob 0\0") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
