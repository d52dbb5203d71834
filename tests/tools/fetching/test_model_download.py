"""tools/fetching/model_download.py: real downloads from a hub of our own, and everything that can go wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils
import pytest
from support.fake_hub import COMMIT, FakeHub, fake_hub

from audio_tokenizers.errors import InfrastructureError, ModelFilesError, UsageError
from tools.fetching import model_download
from tools.fetching.model_download import fetch
from tools.fetching.model_manifest import FileEntry
from tools.fetching.model_sources import ExtraFile, ModelSource

CHUNK = 10_000
WEIGHTS = bytes(range(256)) * 400
FILES = {"config.json": b'{"a": 1}', "sub/model.bin": WEIGHTS, "sub/tokens.txt": b"a b c", "LLM/model.bin": WEIGHTS}
SOURCE = ModelSource(
    huggingface="lab/codec", files=("config.json", "sub/model.bin"), optional=("sub/tokens.*", "sub/none*"), size=0.1
)
TOKENS = {"sub/tokens.txt"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one repository; huggingface_hub takes small bites and does not wait before it tries again."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with fake_hub({"lab/codec": dict(FILES)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files go."""
    path = tmp_path / "codec"
    path.mkdir()
    return path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


class TestHuggingFace:
    def test_all_that_is_needed_and_nothing_else(self, hub: FakeHub, folder: Path) -> None:
        """Needed files and what the patterns find, with the commit they are of, sizes and hashes."""
        fetched = fetch(SOURCE, "huggingface", folder)
        assert names(folder) == {"config.json", "sub/model.bin", "sub/tokens.txt"}
        assert all((folder / name).read_bytes() == FILES[name] for name in names(folder))
        assert fetched.revision == COMMIT
        sums = {name: FileEntry(len(FILES[name]), hashlib.sha256(FILES[name]).hexdigest()) for name in names(folder)}
        assert fetched.files == sums

    def test_the_token_goes_to_the_hub_only(self, hub: FakeHub, folder: Path) -> None:
        """The storage that the hub sends us to is another host, and gets no token."""
        fetch(SOURCE, "huggingface", folder)
        assert ("/lfs/lab/codec@sub/model.bin", None) in hub.tokens
        assert {token for path, token in hub.tokens if "/resolve/" in path} == {"Bearer hf_secret"}

    def test_again_fetches_nothing(self, hub: FakeHub, folder: Path) -> None:
        """What is there and right is not asked for."""
        first = fetch(SOURCE, "huggingface", folder)
        hub.requests.clear()
        assert fetch(SOURCE, "huggingface", folder) == first
        assert hub.requests == []

    def test_it_goes_on_where_the_connection_broke(self, hub: FakeHub, folder: Path) -> None:
        """The next command asks for the rest only, and the whole is checked."""
        hub.cut_after["sub/model.bin"] = 52_345
        with pytest.raises(InfrastructureError, match="run the same command again"):
            fetch(SOURCE, "huggingface", folder)
        assert not (folder / "sub/model.bin").exists()
        (part,) = parts(folder)
        assert part.read_bytes() == WEIGHTS[:50_000]
        hub.cut_after.clear()
        hub.requests.clear()
        fetch(SOURCE, "huggingface", folder)
        assert (folder / "sub/model.bin").read_bytes() == WEIGHTS
        assert ("sub/model.bin", "bytes=50000-") in hub.requests
        assert parts(folder) == []

    def test_a_server_that_sends_the_whole_file_again(self, hub: FakeHub, folder: Path) -> None:
        """Some proxies ignore ranges: nothing is appended to what is there."""
        self.half(folder)
        hub.ignores_ranges = True
        fetch(SOURCE, "huggingface", folder)
        assert (folder / "sub/model.bin").read_bytes() == WEIGHTS

    def half(self, folder: Path, data: bytes = WEIGHTS[:50_000]) -> Path:
        part = folder / "sub" / f".model.bin.{hashlib.sha256(WEIGHTS).hexdigest()[:16]}.part"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(data)
        return part

    def test_a_part_that_is_whole_only_lacks_its_name(self, hub: FakeHub, folder: Path) -> None:
        """A kill between the last byte and the name costs nothing."""
        self.half(folder, WEIGHTS)
        fetch(SOURCE, "huggingface", folder)
        assert (folder / "sub/model.bin").read_bytes() == WEIGHTS
        assert "sub/model.bin" not in [path for path, _ in hub.requests]

    def test_a_part_that_is_too_long_is_thrown_away(self, hub: FakeHub, folder: Path) -> None:
        """It cannot be the beginning of the file."""
        self.half(folder, WEIGHTS + b"x")
        fetch(SOURCE, "huggingface", folder)
        assert ("sub/model.bin", None) in hub.requests

    def test_parts_of_other_revisions_go(self, hub: FakeHub, folder: Path) -> None:
        """They would lie about for ever."""
        (folder / "sub").mkdir()
        (folder / "sub/.model.bin.0123456789abcdef.part").write_bytes(b"old")
        fetch(SOURCE, "huggingface", folder)
        assert parts(folder) == []

    @pytest.mark.parametrize("path", ["config.json", "sub/model.bin"])
    def test_damage_on_the_way_is_found(self, hub: FakeHub, folder: Path, path: str) -> None:
        """Right size, wrong bytes: no file gets its name, and the next try begins again."""
        hub.wrong.add(path)
        with pytest.raises(
            InfrastructureError, match=r"expected sha\d+ [0-9a-f]{40,64}, found .*run the same command again"
        ):
            fetch(SOURCE, "huggingface", folder)
        assert not (folder / path).exists()
        assert parts(folder) == []
        hub.wrong.clear()
        fetch(SOURCE, "huggingface", folder)
        assert (folder / path).read_bytes() == FILES[path]

    @pytest.mark.parametrize("data", [WEIGHTS[:-1], bytes(len(WEIGHTS)), b""])
    def test_damage_on_the_disk_is_mended(self, hub: FakeHub, folder: Path, data: bytes) -> None:
        """A file that was cut or changed since is fetched again, and only that one."""
        fetch(SOURCE, "huggingface", folder)
        (folder / "sub/model.bin").write_bytes(data)
        hub.requests.clear()
        fetch(SOURCE, "huggingface", folder)
        assert (folder / "sub/model.bin").read_bytes() == WEIGHTS
        assert hub.requests == [("sub/model.bin", None)]

    def test_a_repository_without_a_needed_file(self, hub: FakeHub, folder: Path) -> None:
        """It is found out before anything is fetched."""
        del hub.repositories["lab/codec"]["sub/model.bin"]
        with pytest.raises(
            ModelFilesError, match=rf"lab/codec at {COMMIT}: expected sub/model.bin, found LLM/model.bin, conf"
        ):
            fetch(SOURCE, "huggingface", folder)
        assert names(folder) == set()

    def test_a_pinned_revision(self, hub: FakeHub, folder: Path) -> None:
        """It is asked for, and one that is not there is named."""
        pinned = ModelSource(huggingface="lab/codec", revision=COMMIT, files=("config.json",))
        assert fetch(pinned, "huggingface", folder).revision == COMMIT
        gone = ModelSource(huggingface="lab/codec", revision="f" * 40, files=("config.json",))
        with pytest.raises(UsageError, match=rf"lab/codec at {'f' * 40}: not found"):
            fetch(gone, "huggingface", folder)

    def test_lines_where_there_is_no_terminal(self, caplog: pytest.LogCaptureFixture) -> None:
        """Every half minute a line says how far a file is; it writes what it is given."""
        clock = iter([0.0, 1.0, 31.0, 31.0, 32.0])
        file = model_download._RemoteFile("model.bin", "", 4_000_000_000, "")
        written: list[bytes] = []

        def write(data: bytes) -> int:
            written.append(data)
            return len(data)

        raw: Any = SimpleNamespace(write=write, name="raw")
        reported = model_download._Reported(raw, file, 1_000_000_000, clock=lambda: next(clock))
        reported._silent = False
        with caplog.at_level(logging.INFO, "tar2tokens"):
            assert [reported.write(b"abc") for _ in range(3)] == [3, 3, 3]
        assert caplog.messages == ["model.bin: 1.00 GB of 4.00 GB"]
        assert written == [b"abc"] * 3
        assert reported.name == "raw"


class TestTrouble:
    @pytest.mark.parametrize(
        ("status", "headers", "words"),
        [
            (401, {}, "lab/codec: not found, or no access (HTTP 401): `hf auth login`, or set HF_TOKEN"),
            (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "no access (HTTP 401)"),
            (404, {"X-Error-Code": "RepoNotFound"}, "lab/codec: not found, or no access (HTTP 404)"),
            (
                403,
                {"X-Error-Code": "GatedRepo"},
                "gated repository: accept its terms at https://huggingface.co/lab/codec, then `hf auth login`",
            ),
            (403, {}, "no access (HTTP 403)"),
        ],
    )
    def test_what_the_hub_refuses(
        self, hub: FakeHub, folder: Path, status: int, headers: dict[str, str], words: str
    ) -> None:
        """One message that says what to do; nothing that one could only wait for."""
        hub.status, hub.headers = status, headers
        with pytest.raises(UsageError, match=re.escape(words)):
            fetch(SOURCE, "huggingface", folder)

    def test_a_hub_in_trouble(self, hub: FakeHub, folder: Path) -> None:
        """That is no fault of the command."""
        hub.status = 500
        with pytest.raises(
            InfrastructureError, match=r"lab/codec: the server answered .*500.*run the same command again later"
        ):
            fetch(SOURCE, "huggingface", folder)

    def test_no_network(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message says so, and names another source if there is one."""
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(time, "sleep", lambda _: None)
        with pytest.raises(InfrastructureError, match=r"lab/codec cannot be reached.*again with a network: it resumes"):
            fetch(SOURCE, "huggingface", folder)
        both = ModelSource(huggingface="lab/codec", modelscope="l/c", files=("config.json",))
        with pytest.raises(InfrastructureError, match=r"or from --source modelscope: l/c"):
            fetch(both, "huggingface", folder)

    def test_offline_mode(self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """HF_HUB_OFFLINE is named, because the network is not at fault."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        huggingface_hub.utils._http.close_session()
        try:
            with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set: unset it, or give --verify"):
                fetch(SOURCE, "huggingface", folder)
        finally:
            huggingface_hub.utils._http.close_session()

    def test_too_little_room(self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is found out before the first byte; what is there already counts."""
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=60_000))
        with pytest.raises(InfrastructureError, match=r"codec: expected room for 102 kB more, found 60 kB free: make room"):
            fetch(SOURCE, "huggingface", folder)
        assert hub.requests == []
        TestHuggingFace().half(folder)
        fetch(SOURCE, "huggingface", folder)

    def test_a_disk_that_fills_up(self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One message, and what was written stays for the next command."""
        write = model_download._Reported.write

        def full(self: model_download._Reported, data: bytes) -> int:
            if self._done >= 3 * CHUNK:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(self, data)

        monkeypatch.setattr(model_download._Reported, "write", full)
        with pytest.raises(InfrastructureError, match="No space left on device: make room and run the same command again"):
            fetch(SOURCE, "huggingface", folder)
        assert [part.stat().st_size for part in parts(folder)] == [3 * CHUNK]

    def test_a_folder_that_cannot_be_written(self, hub: FakeHub, folder: Path) -> None:
        """An error of the disk is reported as such, not as one of the network."""
        (folder / "sub").write_text("a file")
        with pytest.raises(FileExistsError):
            fetch(SOURCE, "huggingface", folder)

    def test_huggingface_hub_is_not_installed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is an extra: the message says what to install."""
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
        with pytest.raises(UsageError, match="pip install huggingface_hub"):
            fetch(SOURCE, "huggingface", folder)


class TestExtraFiles:
    DATA = b"IQ== 0\n" * 300

    def source(self, hub: FakeHub) -> ModelSource:
        hub.plain["assets/t.tiktoken"] = self.DATA
        extra = ExtraFile(
            "t.tiktoken", f"{hub.url}/plain/assets/t.tiktoken", len(self.DATA), hashlib.sha256(self.DATA).hexdigest()
        )
        return ModelSource(huggingface="lab/codec", files=("config.json",), extra=(extra,))

    def test_from_its_own_address(self, hub: FakeHub, folder: Path) -> None:
        """It stands in the manifest with the others, and no token goes there."""
        fetched = fetch(self.source(hub), "huggingface", folder)
        assert list(fetched.files) == ["config.json", "t.tiktoken"]
        assert (folder / "t.tiktoken").read_bytes() == self.DATA
        assert ("/plain/assets/t.tiktoken", None) in hub.tokens

    def test_other_bytes_are_refused(self, hub: FakeHub, folder: Path) -> None:
        """Its hash is known in advance."""
        source = self.source(hub)
        hub.plain["assets/t.tiktoken"] = self.DATA[::-1]
        with pytest.raises(InfrastructureError, match=r"t\.tiktoken: expected sha256"):
            fetch(source, "huggingface", folder)
        assert not (folder / "t.tiktoken").exists()

    def test_not_there(self, hub: FakeHub, folder: Path) -> None:
        """The message names the address; a file that somebody brought along is as good."""
        source = self.source(hub)
        hub.plain.clear()
        words = rf"/plain/assets/t\.tiktoken: the server answered .*; or put this file into {folder} by other means"
        with pytest.raises(InfrastructureError, match=words):
            fetch(source, "huggingface", folder)
        (folder / "t.tiktoken").write_bytes(self.DATA)
        assert "t.tiktoken" in fetch(source, "huggingface", folder).files


class TestModelScope:
    SOURCE = ModelSource(modelscope="iic/Codec", files=("model.onnx",), optional=("*.yaml",))

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
        """A module with the documented signature, which puts one needed file there."""
        made: list[dict[str, object]] = []

        def snapshot_download(
            model_id: str, revision: str | None = None, local_dir: str = "", allow_patterns: list[str] | None = None
        ) -> str:
            made.append({"model_id": model_id, "allow_patterns": allow_patterns})
            (Path(local_dir) / "model.onnx").write_bytes(WEIGHTS)
            return local_dir

        monkeypatch.setitem(sys.modules, "modelscope", SimpleNamespace(snapshot_download=snapshot_download))
        return made

    def test_its_package_downloads(self, calls: list[dict[str, object]], folder: Path) -> None:
        """Only what is needed is asked for, and each file is hashed for the manifest."""
        fetched = fetch(self.SOURCE, "modelscope", folder)
        assert calls == [{"model_id": "iic/Codec", "allow_patterns": ["model.onnx", "*.yaml"]}]
        assert fetched.files == {"model.onnx": FileEntry(len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())}

    def test_a_repository_without_a_needed_file(self, calls: list[dict[str, object]], folder: Path) -> None:
        """Its package downloads what matches and says nothing of what does not."""
        source = ModelSource(modelscope="iic/Codec", files=("model.onnx", "config.yaml"))
        with pytest.raises(ModelFilesError, match=r"from iic/Codec: expected config.yaml, found model.onnx"):
            fetch(source, "modelscope", folder)

    def test_it_is_not_installed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message says how to get it."""
        monkeypatch.setitem(sys.modules, "modelscope", None)
        with pytest.raises(UsageError, match="pip install modelscope"):
            fetch(self.SOURCE, "modelscope", folder)

    @pytest.mark.parametrize("error", [RuntimeError("404 not found\nand more"), OSError("no route"), KeyError("Data")])
    def test_whatever_it_raises_is_one_message(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """Its errors differ between releases."""

        def snapshot_download(*_: object, **__: object) -> str:
            raise error

        monkeypatch.setitem(sys.modules, "modelscope", SimpleNamespace(snapshot_download=snapshot_download))
        with pytest.raises(
            InfrastructureError, match=r"^iic/Codec could not be downloaded from ModelScope \(.*\): its lines above"
        ):
            fetch(self.SOURCE, "modelscope", folder)
