"""tools/packing/parquet/hugging_face.py: data sets from a hub of our own, its cache, and everything that can go wrong."""

from __future__ import annotations

import functools
import io
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.fake_hub import COMMIT, CONVERTED, CONVERTED_COMMIT, FakeHub, fake_hub
from support.small_run import wav

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.pairs import LeftOut, Pair, Source, SourceOptions
from tools.packing.parquet import hugging_face
from tools.packing.parquet.hugging_face import open_hub

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
README = {"README.md": b"---\nlicense: cc0-1.0\n---\n"}


def parquet(*texts: str, seed: int = 0, path: str | None = None) -> bytes:
    """A file with one row per text."""
    audio = pa.array([{"bytes": wav(400, seed=seed + row), "path": path} for row in range(len(texts))], AUDIO)
    file = io.BytesIO()
    pq.write_table(pa.table({"audio": audio, "text": list(texts)}), file)
    return file.getvalue()


@functools.cache
def speech() -> dict[str, bytes]:
    """The files of a data set."""
    return README | {
        "data/test-00000-of-00001.parquet": parquet("c", seed=2),
        "data/train-00000-of-00001.parquet": parquet("a", "b"),
    }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one data set, and an empty cache; huggingface_hub does not wait before it tries again."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with fake_hub({"datasets/lab/speech": dict(speech())}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def options(tmp_path: Path) -> SourceOptions:
    """As the command gives them where nothing is asked for."""
    return SourceOptions(scratch=tmp_path / "scratch")


HUB_UTILS: Any = huggingface_hub.utils
"""It exports close_session without saying so."""


def pairs(source: Source) -> list[tuple[str, str | None]]:
    """(id, text) of each."""
    return [(found.id, found.text) for item in source.items(0) if isinstance(found := item(), Pair)]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test set HF_HUB_OFFLINE halfway; sessions that know of it end with the test."""
    yield monkeypatch
    monkeypatch.undo()
    HUB_UTILS.close_session()


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    HUB_UTILS.close_session()


class TestDataSets:
    @pytest.mark.parametrize(
        "address",
        [
            "lab/speech",
            f"lab/speech@{COMMIT}",
            "hf://datasets/lab/speech@main",
            "https://huggingface.co/datasets/lab/speech/",
        ],
    )
    def test_all_splits_byte_for_byte(self, hub: FakeHub, options: SourceOptions, address: str) -> None:
        """However it is named; splits name the rows."""
        source = open_hub(address, options)
        found = [item() for item in source.items(0)]
        assert [(p.id, p.text, p.audio, p.metadata) for p in found if isinstance(p, Pair)] == [
            ("test-000000000", "c", wav(400, seed=2), {"split": "test"}),
            ("train-000000000", "a", wav(400, seed=0), {"split": "train"}),
            ("train-000000001", "b", wav(400, seed=1), {"split": "train"}),
        ]
        assert (source.name, source.items_total) == ("speech", 3)

    def test_again_fetches_nothing(self, hub: FakeHub, options: SourceOptions) -> None:
        """What is in the cache stays, and is the same data set."""
        first = open_hub("lab/speech", options)
        hub.requests.clear()
        assert open_hub("lab/speech", options).fingerprint == first.fingerprint
        assert hub.requests == []

    def test_a_new_commit_is_another_data_set(self, hub: FakeHub, options: SourceOptions) -> None:
        """Its branch has moved on since."""
        first = open_hub("lab/speech", options)
        hub.commit = "d" * 40
        hub.repositories["datasets/lab/speech"]["data/test-00000-of-00001.parquet"] = parquet("d", "e")
        second = open_hub("lab/speech", options)
        assert (second.items_total, second.fingerprint != first.fingerprint) == (4, True)
        assert open_hub(f"lab/speech@{COMMIT}", options).fingerprint == first.fingerprint

    def test_one_configuration_of_several(self, hub: FakeHub, options: SourceOptions) -> None:
        """None is guessed; the message says how to name one, and only that one is fetched."""
        files = {f"{name}/train-00000-of-00001.parquet": parquet(name) for name in ("de", "en")}
        hub.repositories["datasets/lab/speech"] = README | files
        words = "found 2: de, en: give the folder of one, such as hf://datasets/lab/speech/en"
        with pytest.raises(UsageError, match=words):
            open_hub("lab/speech", options)
        source = open_hub("hf://datasets/lab/speech/en", options)
        assert (source.name, pairs(source)) == ("speech-en", [("train-000000000", "en")])
        assert [path for path, _ in hub.requests if path.endswith("parquet")] == ["en/train-00000-of-00001.parquet"]

    def test_folders_of_splits_are_no_configurations(self, hub: FakeHub, options: SourceOptions) -> None:
        """`train/` and `test/` belong together."""
        files = {f"{name}/0000.parquet": parquet(name) for name in ("train", "test")}
        hub.repositories["datasets/lab/speech"] = README | files
        assert pairs(open_hub("lab/speech", options)) == [("test-000000000", "test"), ("train-000000000", "train")]

    @pytest.mark.slow
    def test_the_hubs_own_conversion(self, hub: FakeHub, options: SourceOptions) -> None:
        """Where there is no Parquet on the main branch; a revision that is given is taken as it is."""
        hub.repositories["datasets/lab/speech"] = README | {"a.wav": wav(10)}
        hub.repositories[f"datasets/lab/speech/{CONVERTED}"] = {"default/train/0000.parquet": parquet("x", path="a.wav")}
        folder = "hf://datasets/lab/speech/default"
        for address in ("lab/speech", folder, f"lab/speech@{CONVERTED}", f"lab/speech@{CONVERTED_COMMIT}"):
            assert pairs(open_hub(address, options)) == [("a", "x")]
        with pytest.raises(UsageError, match=r"expected Parquet files there or on refs/convert/parquet, found 1 .*wav"):
            open_hub("lab/speech@main", options)

    def test_a_conversion_of_the_beginning_only(self, hub: FakeHub, options: SourceOptions) -> None:
        """The hub converts 5 GB of large data sets: packing that would lose the rest without a word."""
        hub.repositories["datasets/lab/speech"] = dict(README)
        files = {"default/partial-train/0000.parquet": parquet("x")}
        hub.repositories[f"datasets/lab/speech/{CONVERTED}"] = files
        with pytest.raises(UsageError, match=r"beginning only \(default/partial-train/0000.parquet\): .*snapshot"):
            open_hub("lab/speech", options)

    def test_paths_that_lead_out_of_the_snapshot(self, hub: FakeHub, options: SourceOptions, tmp_path: Path) -> None:
        """Whoever wrote the data set does not read this machine's files."""
        (tmp_path / "own.wav").write_bytes(wav(10))
        up = "/".join([".."] * 20) + str(tmp_path / "own.wav")
        audio = pa.array([{"bytes": None, "path": path} for path in (str(tmp_path / "own.wav"), up, "none.wav")], AUDIO)
        file = io.BytesIO()
        pq.write_table(pa.table({"audio": audio, "text": ["a", "b", "c"]}), file)
        hub.repositories["datasets/lab/speech"]["data/test-00000-of-00001.parquet"] = file.getvalue()
        found = [item() for item in open_hub("lab/speech", options).items(0)][:3]
        assert [p.reason for p in found if isinstance(p, LeftOut)] == ["unreadable_audio"] * 3


class TestOffline:
    @pytest.mark.slow
    def test_the_cache_is_enough(self, hub: FakeHub, options: SourceOptions, offline: pytest.MonkeyPatch) -> None:
        """The same data set without any network, also where only its conversion has Parquet."""
        hub.repositories |= {"datasets/lab/wavs": dict(README), f"datasets/lab/wavs/{CONVERTED}": dict(speech())}
        first = [open_hub(name, options).fingerprint for name in ("lab/speech", "lab/wavs")]
        asked = len(hub.tokens)
        go_offline(offline)
        assert [open_hub(name, options).fingerprint for name in ("lab/speech", "lab/wavs")] == first
        assert len(hub.tokens) == asked

    def test_half_a_cache_is_not(self, hub: FakeHub, options: SourceOptions, offline: pytest.MonkeyPatch) -> None:
        """Files that were not fetched before are missed, not left out."""
        hub.cut_after["data/train-00000-of-00001.parquet"] = 1000
        with pytest.raises(InfrastructureError):
            open_hub("lab/speech", options)
        go_offline(offline)
        for name in ("lab/speech", "lab/never"):
            with pytest.raises(UsageError, match=f"{name}: HF_HUB_OFFLINE is set, and the cache does not have all of it"):
                open_hub(name, options)


class TestTrouble:
    @pytest.mark.parametrize("name", ["speech", "a/b c", "hf://models/a/b", "lab/speech@", ""])
    def test_no_address(self, options: SourceOptions, name: str) -> None:
        """What could not be asked for is not asked for."""
        with pytest.raises(UsageError, match="expected owner/name, owner/name@revision or hf://datasets/owner/name@rev"):
            open_hub(name, options)

    @pytest.mark.parametrize("name", ["lab/none", "lab/speech@v2", "lab/-bad-"])
    def test_nothing_of_that_name(self, hub: FakeHub, options: SourceOptions, name: str) -> None:
        """One message, and nothing is tried again."""
        with pytest.raises(UsageError, match=f"{name.partition('@')[0]}: no such data set on the hub, no such revision"):
            open_hub(name, options)

    @pytest.mark.parametrize(
        ("status", "headers", "words"),
        [
            (
                403,
                {"X-Error-Code": "GatedRepo"},
                "gated repository: accept its terms at https://huggingface.co/datasets/lab/speech",
            ),
            (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "lab/speech: no access (Client err"),
        ],
    )
    def test_what_the_hub_refuses(
        self, hub: FakeHub, options: SourceOptions, status: int, headers: dict[str, str], words: str
    ) -> None:
        """The message says what to do."""
        hub.status, hub.headers = status, headers
        with pytest.raises(UsageError, match=re.escape(words)):
            open_hub("lab/speech", options)

    def test_a_hub_in_trouble(self, hub: FakeHub, options: SourceOptions) -> None:
        """That is no fault of the command."""
        hub.status = 500
        with pytest.raises(InfrastructureError, match=r"lab/speech cannot be reached: Got: .*run the same command again"):
            open_hub("lab/speech", options)

    def test_no_network(self, hub: FakeHub, options: SourceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same, with words on where it would go."""
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        with pytest.raises(InfrastructureError, match=r"lab/speech cannot be reached: .*again with a network"):
            open_hub("lab/speech", options)

    def test_its_package_is_missing(self, options: SourceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is an extra: the message says what to install."""
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
        with pytest.raises(UsageError, match=r"newer huggingface_hub: pip install -e '\.\[pack\]'"):
            open_hub("lab/speech", options)

    def test_it_goes_on_where_it_broke_off(self, hub: FakeHub, options: SourceOptions) -> None:
        """Files that are there whole are not fetched again."""
        hub.cut_after["data/train-00000-of-00001.parquet"] = 1000
        with pytest.raises(InfrastructureError, match=r"lab/speech.*run the same command again with a network"):
            open_hub("lab/speech", options)
        hub.cut_after.clear()
        hub.requests.clear()
        assert len(pairs(open_hub("lab/speech", options))) == 3
        assert "README.md" not in [path for path, _ in hub.requests]


def test_lines_where_there_is_no_terminal(
    hub: FakeHub,
    options: SourceOptions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How much there is, at which rate; and nothing that would draw on a terminal."""
    monkeypatch.setattr(hugging_face, "SAY_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "tar2tokens"):
        open_hub("lab/speech", options)
    assert f"lab/speech at {COMMIT}: fetching what is not in the cache" in caplog.messages
    assert re.fullmatch(r"fetched [0-9.]+kB of [0-9.]+kB, .*B/s, [0-9:]+ left", caplog.messages[-1])
    assert capsys.readouterr().err == ""
