"""jobs/remote_files.py: what servers say of files, who is asked as whom, and what has to be installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fake_hub import fake_hub
from support.object_store import ObjectStore, store_of_this_process

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared import extras
from jobs import remote_files
from jobs.remote_files import ask, find_remote, missing_packages
from jobs.remote_tar import RemoteTar


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with store_of_this_process(monkeypatch) as store:
        yield store


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of the schemes at hand are named, with the extra that has them; paths and commands need none."""
    there: set[str] = set()
    monkeypatch.setattr(remote_files, "is_installed", lambda package: package in there)
    words = missing_packages({"s3", "https"})
    assert words is not None
    assert "tars at https://, s3:// need aiohttp, fsspec, s3fs: pip install -e '.[remote]'" in words
    assert missing_packages(set()) is None
    there |= {"fsspec", "huggingface_hub"}
    assert missing_packages({"hf"}) is None
    assert extras.install_words("remote") in (missing_packages({"http"}) or "")


@pytest.mark.slow
def test_version_is_what_changes_with_the_content(store: ObjectStore) -> None:
    """An ETag first; the same object put again has the same one, another of the same size another one."""
    url = store.put("bucket/a.tar", b"x" * 1000)
    first = ask(url)
    assert (first.size, first.version.partition(":")[0]) == (1000, "ETag")
    assert ask("s3://bucket/a.tar") == first
    store.put("bucket/a.tar", b"x" * 1000)
    assert ask(url) == first
    store.put("bucket/a.tar", b"y" * 1000)
    assert ask(url) != first
    assert ask("s3://bucket/a.tar") != first


def test_server_that_says_nothing_but_the_size(store: ObjectStore) -> None:
    """Then the size alone tells tars apart."""
    store.tags = False
    assert ask(store.put("bucket/a.tar", b"x" * 10)).version == ""


def test_without_a_size(store: ObjectStore) -> None:
    """It is refused with what helps."""
    store.sizes = False
    with pytest.raises(UsageError, match="--allow-pipe"):
        ask(store.put("bucket/a.tar", b"x"))


@pytest.mark.slow
def test_public_buckets(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials requests are not signed, as public buckets take them; with some they are."""
    store.put("bucket/a.tar", b"x")
    ask("s3://bucket/a.tar")
    assert store.authorizations[-1] is not None
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    remote_files._shared_filesystem.cache_clear()
    ask("s3://bucket/a.tar")
    assert store.authorizations[-1] is None


def test_credentials_of_a_host(store: ObjectStore, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in ~/.netrc are sent to the host that they are for."""
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w") as file:  # noqa: PTH123
        file.write("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", netrc)
    ask(store.put("bucket/a.tar", b"x"))
    assert (store.authorizations[-1] or "").startswith("Basic ")


def test_compressed_tar_is_what_lies_there(store: ObjectStore) -> None:
    """Bytes come as they are, and no client unpacks them on the way: sizes and ranges are those of the file."""
    data = b"\x1f\x8b" + bytes(100)
    assert RemoteTar(store.put("bucket/a.tar.gz", data)).open().read(200) == data


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a data set on the hub: its hash is its version, a branch may be named, and globs find what is there."""
    from huggingface_hub import HfFileSystem

    data = bytes(range(256)) * 10_000
    with fake_hub({"datasets/o/n": {"d/a.tar": data, "b.tar": b"x" * 2000}}) as hub:
        monkeypatch.setattr(
            remote_files._own, "hub", HfFileSystem(endpoint=hub.url, token=False, skip_instance_cache=True), raising=False
        )
        facts = ask("hf://datasets/o/n/d/a.tar")
        assert (facts.size, facts.version.partition(":")[0]) == (len(data), "blob_id")
        with RemoteTar("hf://datasets/o/n@main/d/a.tar").open() as file:
            file.seek(1000)
            assert file.read(500) == data[1000:1500]
        assert find_remote("hf://datasets/o/n/*.tar") == ["hf://datasets/o/n/b.tar"]
        with pytest.raises(FileNotFoundError, match="nothing at this address"):
            RemoteTar("hf://datasets/o/n/none.tar", tries=1).facts()
