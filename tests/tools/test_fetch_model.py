"""tools/fetch_model.py: the command as people run it, from the first question to the command that comes next."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_hub import COMMIT, FakeHub, fake_hub
from support.runs import ROOT, call, wait_for
from support.tiny_higgs import build_original_layout

from tools import fetch_model as module
from tools.fetch_model import fetch_model
from tools.fetching.model_sources import SOURCES

HIGGS = "bosonai/higgs-audio-v2-tokenizer"
LICENCE = "Boson Higgs Audio 2 Community License"
MIMI = {"config.json": b"{}", "model.safetensors": bytes(5000), "README.md": b"hello"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny Higgs tokenizer, as its repository would have it."""
    folder = build_original_layout(tmp_path_factory.mktemp("higgs") / "tokenizer")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(checkpoint: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has Higgs, at the revision that is pinned."""
    with fake_hub({HIGGS: {**checkpoint, "README.md": b"read me"}}) as server:
        server.commit = SOURCES["higgs"][""].revision or COMMIT
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def mimi(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub whose weights nobody could load."""
    with fake_hub({"kyutai/mimi": dict(MIMI)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_preset_of_several_parts(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One command fetches all of them below one folder, which is what --model-path takes; each is checked on its own."""
    cosyvoice = {"cosyvoice.yaml": b"a: 1", "llm.pt": b"PK", "speech_tokenizer_v1.onnx": b"onnx"}
    monkeypatch.setattr(module, "PARTS", {"taste": (("whisper_features", None), ("cosyvoice_s3", "CosyVoice-300M"))})
    with fake_hub({"openai/whisper-large-v3": dict(MIMI), "FunAudioLLM/CosyVoice-300M": cosyvoice}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert call(fetch_model, "taste") == 0
    assert capsys.readouterr().out.endswith("--backend taste --model-path models\n")
    assert (here / "models/CosyVoice-300M/speech_tokenizer_v1.onnx").read_bytes() == b"onnx"
    assert not (here / "models/CosyVoice-300M/llm.pt").exists()
    assert call(fetch_model, "taste", "--verify") == 0
    (here / "models/whisper-large-v3/config.json").write_text("[]")
    assert call(fetch_model, "taste", "--verify") == 1
    assert call(fetch_model, "taste", "--variant", "small") == 2


class TestEndToEnd:
    @pytest.mark.slow
    def test_fetched_checked_and_tried(self, hub: FakeHub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Licence, files, and the command that uses them; later, without the hub, checked, and one second encoded."""
        assert call(fetch_model, "higgs", "--accept-licence") == 0
        out = capsys.readouterr().out
        assert out.startswith(f"higgs: {HIGGS}, about 0.8 GB, into models/higgs-audio-v2-tokenizer\nlicence: {LICENCE}, ")
        assert f"models/higgs-audio-v2-tokenizer: 2 files of {HIGGS} at {hub.commit}, all sizes and hashes right\n" in out
        command = "python -m hpc.submit --list tars.txt --backend higgs --model-path models/higgs-audio-v2-tokenizer"
        assert out.endswith(f"To use it:\n  {command}\n")
        folder = here / "models/higgs-audio-v2-tokenizer"
        assert sorted(path.name for path in folder.iterdir()) == [".tar2tokens.higgs.json", "config.json", "model.pth"]
        manifest = json.loads((folder / ".tar2tokens.higgs.json").read_text())
        assert (manifest["repository"], manifest["revision"], manifest["licences"]) == (HIGGS, hub.commit, [LICENCE])
        hub.status = 500
        assert call(fetch_model, "higgs", "--verify", "--deep") == 0
        out = capsys.readouterr().out
        assert "2 files of" in out
        assert "higgs: one second becomes\n  tokens: int16 [8, 25], values " in out
        assert LICENCE not in out

    @pytest.mark.slow
    def test_killed_and_run_again(self, hub: FakeHub, tmp_path: Path) -> None:
        """After kill -9 in the middle of a file the same command, in another process, asks for the rest only."""
        weights = os.urandom(1 << 20) * 24
        hub.repositories[HIGGS]["model.pth"] = weights
        hub.stall_after["model.pth"] = 20 << 20
        folder = tmp_path / "model"
        command = [sys.executable, "-m", "tools.fetch_model", "higgs", "--accept-licence", "--to", str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            wait_for(
                lambda: (
                    process.poll() is not None
                    or sum(part.stat().st_size for part in folder.glob(".model.pth.*.part")) >= 10 << 20
                )
            )
            assert process.poll() is None, process.stderr and process.stderr.read()
            process.send_signal(signal.SIGKILL)
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert (folder / "model.pth").read_bytes() == weights
        (start,) = [wanted for path, wanted in hub.requests if path == "model.pth" and wanted]
        assert int(start.removeprefix("bytes=").removesuffix("-")) >= 10 << 20
        assert "model.pth: 25 MB, resuming after " in again.stderr

    def test_interrupted_by_a_person(
        self, mimi: FakeHub, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C is answered by one line, and leaves no manifest that would claim that all is there."""

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "fetch", interrupt)
        assert call(fetch_model, "mimi") == 130
        assert capsys.readouterr().err == "interrupted: the same command resumes here\n"
        assert list((here / "models/mimi").iterdir()) == []

    def test_one_message_for_trouble(
        self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No traceback, whatever the network does."""
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(time, "sleep", lambda _: None)
        assert call(fetch_model, "mimi") == 1
        err = capsys.readouterr().err
        assert err.startswith("error: kyutai/mimi cannot be reached")
        assert err.count("\n") == 1


class TestConsent:
    def test_nobody_to_ask(
        self, hub: FakeHub, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a script a licence that restricts use wants --accept-licence; the licence is named all the same."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        assert call(fetch_model, "higgs") == 2
        out, err = capsys.readouterr()
        assert (
            f"licence: {LICENCE}, https://huggingface.co/{HIGGS}/blob/main/LICENSE: products with more than 100,000" in out
        )
        assert err == "error: this licence restricts use: read it, and give --accept-licence if you agree\n"
        assert hub.tokens == []
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
    def test_a_person_is_asked(
        self,
        hub: FakeHub,
        here: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        answer: str,
        code: int,
    ) -> None:
        """Only a clear yes downloads anything."""
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert call(fetch_model, "higgs") == code
        out = capsys.readouterr().out
        assert "Do you agree? [y/N] " in out
        assert ("nothing was downloaded" in out) == (code == 1) == (not (here / "models").exists())

    def test_other_licences_are_named(self, mimi: FakeHub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Nobody is asked where nothing is restricted."""
        assert call(fetch_model, "mimi") == 0
        assert "licence: CC BY 4.0, https://huggingface.co/kyutai/mimi\n" in capsys.readouterr().out


class TestVerify:
    def test_faults_are_named(self, mimi: FakeHub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 1, each wrong file in a line; without --verify the command mends it."""
        assert call(fetch_model, "mimi", "--to", "my models/m") == 0
        assert capsys.readouterr().out.endswith("--backend mimi --model-path 'my models/m'\n")
        (here / "my models/m/model.safetensors").write_bytes(bytes(4999))
        assert call(fetch_model, "mimi", "--to", "my models/m", "--verify") == 1
        assert capsys.readouterr().out.splitlines() == [
            "my models/m/model.safetensors: expected 5,000 bytes, found 4,999",
            "1 of 2 files wrong: without --verify this command fetches those again",
        ]
        assert call(fetch_model, "mimi", "--to", "my models/m") == 0
        assert call(fetch_model, "mimi", "--to", "my models/m", "--verify") == 0

    def test_a_directory_that_somebody_else_filled(
        self, checkpoint: dict[str, bytes], here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Without a manifest the backend itself says whether its files are there and whole."""
        folder = here / "copied"
        folder.mkdir()
        for name, data in checkpoint.items():
            (folder / name).write_bytes(data)
        assert call(fetch_model, "higgs", "--to", folder, "--verify") == 0
        assert "looks whole; there is no manifest, so no hash was checked" in capsys.readouterr().out
        (folder / "model.pth").write_bytes(checkpoint["model.pth"][:-1000])
        assert call(fetch_model, "higgs", "--to", folder, "--verify") == 1
        assert "model.pth: cut after" in capsys.readouterr().out

    def test_no_folder(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is not made, and nothing is fetched into it."""
        assert call(fetch_model, "mimi", "--verify") == 2
        assert "models/mimi: there is no such folder: give --to, or fetch it without --verify" in capsys.readouterr().err
        assert list(here.iterdir()) == []


class TestOptions:
    def test_nothing_to_fetch(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """mu-law says so, and can be tried all the same."""
        assert call(fetch_model, "mulaw") == 0
        assert capsys.readouterr().out == "mulaw has no weights: there is nothing to fetch\n"
        assert call(fetch_model, "mulaw", "--deep") == 0
        assert "tokens: uint8 [1, 8000]" in capsys.readouterr().out
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["higs"], "did you mean 'higgs'?"),
            (["mimi", "--source", "github"], "--source 'github': expected huggingface or modelscope"),
            (["mimi", "--source", "modelscope"], "--source modelscope: kyutai/mimi is only known on the other one"),
            (
                ["cosyvoice_s3", "--variant", "CosyVoice-300M-25Hz", "--source", "huggingface"],
                "iic/CosyVoice-300M-25Hz is only known on the other one: give --source modelscope",
            ),
            (["mimi", "--to", "file"], "--to file: expected a folder, found a file"),
        ],
    )
    def test_bad_usage(self, here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
        """Exit code 2 and one message, before anything is asked or fetched."""
        (here / "file").touch()
        assert call(fetch_model, *arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err

    def test_modelscope_is_taken_where_it_alone_has_the_files(
        self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without --source; its package is an extra, and the message says how to get it."""
        monkeypatch.setitem(sys.modules, "modelscope", None)
        assert call(fetch_model, "cosyvoice_s3", "--variant", "CosyVoice-300M-25Hz") == 2
        out, err = capsys.readouterr()
        assert out.startswith("cosyvoice_s3: iic/CosyVoice-300M-25Hz, about 0.5 GB, into models/CosyVoice-300M-25Hz\n")
        assert err == "error: --source modelscope needs its package: pip install modelscope\n"

    def test_help_imports_nothing_heavy(self) -> None:
        """--help answers at once: no torch, no hub client, not even numpy."""
        code = (
            "import sys, tools.fetch_model; print(*{'torch', 'huggingface_hub', 'modelscope', 'numpy'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "\n"
