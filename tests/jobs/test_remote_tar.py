"""jobs/remote_tar.py: every byte of a tar at an address, whatever the network does, or trouble that is the machine's."""

from __future__ import annotations

import errno
import io
import random
from collections.abc import Iterator

import pytest
from support.object_store import ObjectStore, store_of_this_process

from audio_tokenizers.errors import UsageError
from jobs.remote_tar import RemoteError, RemoteTar, TarChangedError

DATA = random.Random(1).randbytes(20_000_000)
"""More than is asked for at once."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with store_of_this_process(monkeypatch) as store:
        store.put("bucket/d/a.tar", DATA)
        yield store


@pytest.fixture(params=["http", "s3"])
def tar(request: pytest.FixtureRequest, store: ObjectStore) -> RemoteTar:
    """The same object, over HTTP and by S3."""
    return RemoteTar({"http": f"{store.url}/bucket/d/a.tar", "s3": "s3://bucket/d/a.tar"}[request.param], tries=4)


def read(tar: RemoteTar, start: int = 0) -> bytes:
    with io.BufferedReader(tar.open(), 1 << 20) as file:
        file.seek(start)
        return file.read()


class TestReading:
    @pytest.mark.slow
    def test_every_byte(self, tar: RemoteTar, store: ObjectStore) -> None:
        """The whole is read in a few ranges, and its server is asked once more what it is."""
        assert read(tar) == DATA
        assert len(store.gets("bucket/d/a.tar")) == 3
        facts = tar.facts()
        assert facts.size == len(DATA)
        assert facts.version.startswith("ETag: ")

    def test_passing_over_asks_for_nothing(self, tar: RemoteTar, store: ObjectStore) -> None:
        """Who resumes at a late clip reads from there: what lies before is not sent."""
        assert read(tar, 19_000_000) == DATA[19_000_000:]
        assert store.gets("bucket/d/a.tar") == [f"bytes=19000000-{len(DATA) - 1}"]

    def test_each_piece_is_a_sign(self, tar: RemoteTar) -> None:
        """Whoever watches sees that it gets on, and each new try."""
        signs: list[None] = []
        with tar.open(lambda: signs.append(None)) as file:
            file.read(3 << 20)
        assert len(signs) > 1

    def test_empty(self, store: ObjectStore) -> None:
        """An object without bytes is read as such; it is for the tar's reader to say what it lacks."""
        assert read(RemoteTar(store.put("bucket/empty.tar", b""))) == b""


class TestPassingTrouble:
    @pytest.mark.slow
    def test_it_goes_on_at_the_byte(self, tar: RemoteTar, store: ObjectStore) -> None:
        """Busy servers, errors of theirs and broken connections cost no byte, and what has come is not asked for again."""
        store.statuses[:] = [503, 500, 0, 429, 0, 502]
        store.cuts[:] = [len(DATA), len(DATA), 100_000]
        assert read(tar) == DATA
        starts = [int((wanted or "=0-").split("=")[1].split("-")[0]) for wanted in store.gets("bucket/d/a.tar")]
        assert starts == sorted(starts)
        assert len(set(starts)) < len(starts) <= len(set(starts)) + 5

    @pytest.mark.slow
    def test_connection_that_never_lasts(self, tar: RemoteTar, store: ObjectStore) -> None:
        """Where each connection breaks after a megabyte, less is asked for at once, until it comes."""
        store.cuts[:] = [1_000_000] * 1000
        assert read(tar, 10_000_000) == DATA[10_000_000:]

    @pytest.mark.slow
    def test_bytes_that_have_come_start_the_count_anew(self, tar: RemoteTar, store: ObjectStore) -> None:
        """A connection that breaks again and again, but brings something, is good enough: tries count in a row."""
        store.statuses[:] = [503, 503, 503, 0] * 3
        assert read(tar) == DATA

    @pytest.mark.slow
    def test_trouble_that_stays(self, tar: RemoteTar, store: ObjectStore) -> None:
        """It ends in an error that is the machine's, with the address and what was said, after as many tries as it may."""
        with tar.open() as file:
            store.statuses[:] = [503] * 100
            with pytest.raises(RemoteError, match=r"4 tries in a row ended so: is the network well") as caught:
                file.read(10)
        assert caught.value.errno == errno.EREMOTEIO
        assert caught.value.filename == str(tar)
        assert len(store.gets("bucket/d/a.tar")) == 4

    def test_nobody_listens(self, tar: RemoteTar, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is not there, as in an outage, says nothing of the tar."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        url = (
            str(tar).replace(str(tar).split("/bucket")[0], "http://127.0.0.1:9") if str(tar).startswith("http") else str(tar)
        )
        with pytest.raises(RemoteError, match="is the network well"):
            RemoteTar(url, tries=2).open()


class TestTroubleThatDoesNotPass:
    @pytest.mark.slow
    @pytest.mark.parametrize("status", [401, 403])
    def test_no_access(self, tar: RemoteTar, store: ObjectStore, status: int) -> None:
        """It is said at once, with what to look at, and counts as the machine's: other credentials may open the tar."""
        store.refuses = status
        with pytest.raises(RemoteError, match=rf"the server refuses access \({status}\).*credentials") as caught:
            tar.open()
        assert caught.value.errno == errno.EKEYREJECTED

    @pytest.mark.slow
    def test_nothing_there(self, tar: RemoteTar, store: ObjectStore) -> None:
        """It is as a file that is missing."""
        with pytest.raises(FileNotFoundError, match=r"nothing at this address \(404\)"):
            RemoteTar(f"{tar}x").open()

    @pytest.mark.slow
    def test_bad_request(self, tar: RemoteTar, store: ObjectStore) -> None:
        """What a server calls our fault is not asked for again."""
        store.refuses = 400
        with pytest.raises(RemoteError, match=r"\(400\)"):
            RemoteTar(str(tar), tries=1000).open()

    def test_size_that_nobody_says(self, store: ObjectStore) -> None:
        """Without it a cut looks like the end, so such a server is refused."""
        store.sizes = False
        with pytest.raises(UsageError, match="does not say how large it is"):
            RemoteTar(f"{store.url}/bucket/d/a.tar").open()

    @pytest.mark.slow
    @pytest.mark.parametrize("other", [DATA[::-1], DATA[:100]], ids=["as large", "smaller"])
    def test_replaced_after_a_break(self, tar: RemoteTar, store: ObjectStore, other: bytes) -> None:
        """Bytes of two tars are never put together."""
        file = io.BufferedReader(tar.open(), 1 << 20)
        file.read(1)
        store.put("bucket/d/a.tar", other)
        store.statuses[:] = [503]
        with file, pytest.raises(TarChangedError, match="written to while it was read"):
            file.read()


class TestWithoutRanges:
    @pytest.mark.slow
    def test_it_is_read_on_from_the_beginning(self, store: ObjectStore) -> None:
        """A server that sends the whole file whatever is asked for is read as a stream, and passed over after a break."""
        store.ranges = False
        store.cuts[:] = [12_000_000, len(DATA), 11_000_000, 5]
        assert read(RemoteTar(f"{store.url}/bucket/d/a.tar", tries=4)) == DATA

    @pytest.mark.slow
    def test_seek(self, store: ObjectStore) -> None:
        """Forwards by passing over, backwards from the beginning."""
        store.ranges = False
        with RemoteTar(f"{store.url}/bucket/d/a.tar").open() as file:
            for place in (15_000_000, 15_000_010, 7):
                file.seek(place)
                assert file.read(100) == DATA[place : place + 100]


def test_globs(store: ObjectStore) -> None:
    """A bucket's list is asked for what matches; a bucket with nothing of it gives nothing; no access is no answer."""
    for name in ("d/b.tar", "d/e/c.tar", "d/x.txt"):
        store.put(f"bucket/{name}", b"x")
    assert sorted(RemoteTar("s3://bucket/d/*.tar").matches()) == ["s3://bucket/d/a.tar", "s3://bucket/d/b.tar"]
    assert "s3://bucket/d/e/c.tar" in RemoteTar("s3://bucket/**/*.tar").matches()
    assert RemoteTar("s3://bucket/none*").matches() == []
    store.refuses = 403
    with pytest.raises(RemoteError, match="refuses access"):
        RemoteTar("s3://bucket/d/*.tar").matches()
