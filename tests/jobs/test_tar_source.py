"""jobs/tar_source.py: a list's entry, opened as whatever it is; the same clips come of each."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.object_store import ObjectStore, store_of_this_process
from support.small_run import small_tar

from audio_tokenizers.errors import UsageError
from jobs.pipe_tar import PipeTar
from jobs.remote_tar import RemoteError, RemoteTar
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_reader import TarReader
from jobs.tar_source import TarSource, bytes_of, tar_source


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with store_of_this_process(monkeypatch) as store:
        yield store


def clips(source: TarSource, skip: int = 0) -> list[tuple[str, bytes | None, str | None]]:
    with TarReader(source, skip_clips=skip) as reader:
        return [(clip.name, clip.audio.read() if clip.audio else None, clip.annotations.text) for clip in reader]


def test_what_entries_are() -> None:
    """A path, an address, a command; a command only where somebody has allowed it."""
    assert tar_source("/d/a.tar") == Path("/d/a.tar")
    assert tar_source("s3://b/a.tar") == RemoteTar("s3://b/a.tar")
    assert tar_source("pipe:cat a.tar", allow_pipe=True) == PipeTar("pipe:cat a.tar")
    with pytest.raises(UsageError, match="--allow-pipe"):
        tar_source("pipe:cat a.tar")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_same_clips_of_each(tmp_path: Path, store: ObjectStore, suffix: str) -> None:
    """From a file, over HTTP with and without ranges, from S3 and from a command, from the first clip or a later one."""
    path = small_tar(tmp_path / "a.tar", samples=3_000_000)
    data = path.read_bytes() if suffix == "tar" else gzip.compress(path.read_bytes(), 1)
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(data)
    url = store.put(f"bucket/b.{suffix}", data)
    for skip in (0, 3):
        expected = clips(path, skip)
        assert len(expected) == 5
        for entry in (url, f"s3://bucket/b.{suffix}", f"pipe:cat {path}"):
            assert clips(tar_source(entry, allow_pipe=True), skip) == expected
        store.ranges = False
        assert clips(tar_source(url), skip) == expected
        store.ranges = True


def test_sizes(tmp_path: Path, store: ObjectStore) -> None:
    """Of a file and at an address; nobody knows how much a command will write."""
    path = small_tar(tmp_path / "a.tar")
    size = path.stat().st_size
    assert bytes_of(path) == bytes_of(tar_source(store.put("bucket/a.tar", path.read_bytes()))) == size
    assert bytes_of(tar_source("pipe:cat a.tar", allow_pipe=True)) == 0


@pytest.mark.slow
def test_cut_tar_and_cut_connection(tmp_path: Path, store: ObjectStore) -> None:
    """An object that is cut is a damaged tar; a connection that ends early, for good, or a command that fails, is none."""
    data = small_tar(tmp_path / "a.tar", samples=100_000).read_bytes()
    cut = tar_source(store.put("bucket/cut.tar", data[:50_000]))
    with pytest.raises(TarDamage, match="inside a member's data"):
        clips(cut)
    with pytest.raises(TarDamage, match="inside a member's data"):
        clips(tar_source(f"pipe:head -c 50000 {tmp_path}/a.tar", allow_pipe=True))
    store.put("bucket/a.tar", data)
    store.cuts[:] = [50_000, *[0] * 100]
    with pytest.raises(RemoteError, match="is the network well"):
        clips(RemoteTar("s3://bucket/a.tar", tries=2))
    with pytest.raises(RemoteError, match="exit code 1"):
        clips(tar_source(f"pipe:head -c 50000 {tmp_path}/a.tar; exit 1", allow_pipe=True))


@pytest.mark.slow
def test_large_members_are_passed_over(tmp_path: Path, store: ObjectStore) -> None:
    """What is skipped of a plain tar is not asked for, but for its last byte."""
    path = small_tar(tmp_path / "a.tar", clips=2, samples=20_000_000)
    source = tar_source(store.put("bucket/a.tar", path.read_bytes()))
    stream = TarStream(source)
    names = [member.name for member in stream]
    stream.close()
    assert names == [b"000.wav", b"000.txt", b"001.wav", b"001.txt"]
    wanted = [asked.removeprefix("bytes=").split("-") for asked in store.gets("bucket/a.tar") if asked]
    assert sum(int(end) + 1 - int(start) for start, end in wanted) < path.stat().st_size
