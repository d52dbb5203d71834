"""jobs/tar_check.py: what TarStream would refuse at its first header is found out without reading further."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import sys
from pathlib import Path

import pytest
from support.small_run import small_tar
from support.tars import end_blocks

from jobs.tar_check import start_fault
from jobs.tar_format import TarDamage, TarStream

if sys.version_info >= (3, 14):
    from compression import zstd as zstandard
else:
    from backports import zstd as zstandard


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return small_tar(tmp_path / "whole.tar").read_bytes()


def zstd(data: bytes, path: Path) -> bytes:
    with zstandard.ZstdFile(path, "wb") as file:
        file.write(data)
    return path.read_bytes()


def test_what_the_reader_begins_with_passes(tmp_path: Path, whole: bytes) -> None:
    """Plain, gzip and zstd tars pass whatever comes after their first header, and so does an empty archive."""
    noise = os.urandom(1 << 20)
    for data in (
        whole,
        whole[:512] + b"not read",
        end_blocks(),
        gzip.compress(whole + noise),
        gzip.compress(whole + noise)[:5000],
        zstd(whole + noise, tmp_path / "zstd"),
    ):
        path = tmp_path / "x.tar"
        path.write_bytes(data)
        assert start_fault(path) is None


def test_what_the_reader_refuses_is_told_in_its_words(tmp_path: Path, whole: bytes) -> None:
    """No bytes, foreign bytes, other compressions and a first header that is damaged: in the words of the reader."""
    damaged = b"\xff" + whole[1:]
    path = tmp_path / "x.tar"
    for data in (
        b"",
        b"text" * 500,
        b"short",
        bz2.compress(whole),
        lzma.compress(whole),
        b"PK\x03\x04" + whole,
        damaged,
        gzip.compress(b"text" * 500),
        gzip.compress(whole)[:15],
        zstd(whole, tmp_path / "zstd")[:15],
    ):
        path.write_bytes(data)
        with pytest.raises(TarDamage) as caught, contextlib.closing(TarStream(path)) as stream:
            list(stream)
        assert start_fault(path) == str(caught.value)


def test_what_cannot_be_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing tar, a link to nothing, a FIFO, a folder, a device and a file without permission each get their reason."""
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "link.tar").symlink_to("nowhere")
    assert start_fault(tmp_path / "none.tar") == "there is no such file"
    assert start_fault(tmp_path / "link.tar") == "a link to what is not there"
    assert start_fault(tmp_path / "fifo.tar") == "expected a tar, found a FIFO"
    assert start_fault(tmp_path) == "expected a tar, found a folder"
    assert start_fault(Path("/dev/null")) == "expected a tar, found a device"
    assert start_fault(tmp_path / "fifo.tar" / "x.tar") == "Not a directory"

    def refuse(*_arguments: object, **_settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    small_tar(tmp_path / "mine.tar")
    monkeypatch.setattr("jobs.tar_source._LocalFile", refuse)  # root may read everything
    assert start_fault(tmp_path / "mine.tar") == "Permission denied"


def test_little_is_read(tmp_path: Path, whole: bytes) -> None:
    """Of a plain tar no more than its first header, so that 100,000 of them do not become 100 GB."""
    path = tmp_path / "x.tar"
    path.write_bytes(whole)
    stream = TarStream(path, read_bytes=512)
    stream.check_start()
    assert stream.offset == 512
    assert os.lseek(stream._raw.fileno(), 0, os.SEEK_CUR) == 512
    stream.close()
