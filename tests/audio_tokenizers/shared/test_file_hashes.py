"""shared/file_hashes.py: the hash is that of the bytes, and bytes are read no more often than they must be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from audio_tokenizers.shared.file_hashes import FileVersion, HashMemory, files_sha256, hashes_from


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """`a` of `aaa`, `b` of `bbb`."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode() * 3)
    return paths


def replace_unseen(path: Path, data: bytes) -> None:
    """Other bytes in a file whose size and time of change stay: whoever gives their hash has read them."""
    stat = path.stat()
    path.write_bytes(data)
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_the_hash_is_of_all_bytes_in_order(files: list[Path]) -> None:
    """As sha256sum of the files one after the other; a change shows."""
    assert files_sha256(files) == hashlib.sha256(b"aaabbb").hexdigest()
    assert files_sha256(files[::-1]) == hashlib.sha256(b"bbbaaa").hexdigest()
    files[0].write_bytes(b"other")
    assert files_sha256(files) == hashlib.sha256(b"otherbbb").hexdigest()


def test_a_process_reads_a_version_once(files: list[Path]) -> None:
    """To describe a backend and to load it costs one reading; another time of change is another version."""
    before = files_sha256(files)
    replace_unseen(files[1], b"ccc")
    assert files_sha256(files) == before
    os.utime(files[1], ns=(0, 0))
    assert files_sha256(files) == hashlib.sha256(b"aaaccc").hexdigest()


def test_a_store_is_asked_within_its_block_alone(files: list[Path]) -> None:
    """It is told what had to be read, and knows nothing of what others have read before."""
    plain = files_sha256(files)
    store = HashMemory()
    replace_unseen(files[0], b"ddd")
    with hashes_from(store):
        found = files_sha256(files)
        replace_unseen(files[0], b"eee")
        assert files_sha256(files) == found == hashlib.sha256(b"dddbbb").hexdigest()
    assert store.find(tuple(FileVersion.of(path) for path in files)) == found
    assert files_sha256(files) == plain


def test_a_file_that_changes_while_it_is_read_is_not_remembered(files: list[Path]) -> None:
    """A download in progress: the hash of half of it must not stand for the whole."""

    class Growing(HashMemory):
        def find(self, versions: tuple[FileVersion, ...]) -> str | None:
            with files[1].open("ab") as file:
                file.write(b"more")
            return super().find(versions)

        def keep(self, versions: tuple[FileVersion, ...], sha256: str) -> None:
            raise AssertionError("remembered")

    with hashes_from(Growing()):
        assert files_sha256(files) == hashlib.sha256(b"aaabbbmore").hexdigest()


def test_paths_are_told_apart_wherever_the_process_stands(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name means another file in another folder."""
    store = HashMemory()
    with hashes_from(store):
        monkeypatch.chdir(files[0].parent)
        assert files_sha256([Path("a")]) == hashlib.sha256(b"aaa").hexdigest()
        monkeypatch.chdir("/")
        assert files_sha256(files[:1]) == hashlib.sha256(b"aaa").hexdigest()
    assert store.find((FileVersion.of(files[0]),)) is not None
