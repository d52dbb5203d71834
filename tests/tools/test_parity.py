"""tools/parity.py: our engine against upstream's own code, on clips of a list, with tiny checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import golden_audio
from support.runs import ROOT, call, write_list
from support.small_run import write_tar
from support.tars import audio_file
from support.tiny_higgs import build_hubert_cache, build_original_layout
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers.cosyvoice_s3.backend import CosyVoiceS3
from tools.parity import parity

pytestmark = pytest.mark.slow

SECONDS = (0.3, 1.1, 2.5, 0.001)


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two tars; the last clip of each is too short for any model."""
    folder = tmp_path_factory.mktemp("tars")
    made = []
    for number in range(2):
        members = {}
        for clip, seconds in enumerate(SECONDS):
            wave = golden_audio.wave(golden_audio.pcm(int(seconds * 24_000), 5000 * clip + number))
            members[f"{clip}.wav"] = audio_file(wave, 24_000, subtype="FLOAT")
        made.append(write_tar(folder / f"{number}.tar", members))
    return write_list(folder / "tars.txt", made)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny S3 tokenizer."""
    path = tmp_path_factory.mktemp("s3") / "speech_tokenizer_v2.onnx"
    build_s3_onnx(path, version="v2", rate=25)
    return path


def compare(tars: Path, model: Path, *words: object, backend: str = "cosyvoice_s3") -> int:
    return call(parity, "--backend", backend, "--model-path", model, "--list", tars, "--device", "cpu", *words)


def test_equal(tars: Path, s3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torch against onnxruntime on one checkpoint: all tokens agree, both refuse the short clips, and it exits 0."""
    assert compare(tars, s3, "--clips", 8) == 0
    out = capsys.readouterr().out
    assert "own: variant v2, 25 Hz, engine torch" in out
    assert "upstream: variant v2, 25 Hz, engine onnx" in out
    assert "6 of 6 clips agree in all" in out
    assert "2 more clips would be error records" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["clips", "4", "2", "6"] in rows
    assert ["tokens[0]", *["100.0000%"] * 3] in rows
    assert "first difference" not in out


def test_fewer_clips(tars: Path, s3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as were asked for, from both tars."""
    assert compare(tars, s3, "--clips", 2) == 0
    assert "2 of 2 clips agree in all" in capsys.readouterr().out


def test_a_difference(tars: Path, s3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One token of our engine is wrong: the first place is shown, and it exits 1, unless less is enough."""
    real = CosyVoiceS3.encode_clips

    def wrong(self: CosyVoiceS3, clips: list[Any]) -> list[Any]:
        values = real(self, clips)
        if self.info.recipe["engine"] == "torch" and len(clips[0].wave) == 40_000:
            values[0]["tokens"][0, 7] ^= 1
        return values

    monkeypatch.setattr(CosyVoiceS3, "encode_clips", wrong)
    assert compare(tars, s3, "--clips", 8) == 1
    out = capsys.readouterr().out
    assert "4 of 6 clips agree in all" in out
    assert "first difference: " in out
    assert "2.wav (2.50 s): tokens[0], token 7 of 63 (at 0.28 s) is " in out
    assert compare(tars, s3, "--clips", 8, "--at-least", 0.9) == 0
    assert compare(tars, s3, "--clips", 8, "--at-least", 0.999) == 1


def test_one_engine_refuses(
    tars: Path, s3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 1 whatever share is asked for, and names the clip."""
    real = CosyVoiceS3.encode_clips

    def refuse(self: CosyVoiceS3, clips: list[Any]) -> list[Any]:
        if self.info.recipe["engine"] == "onnx" and len(clips[0].wave) > 20_000:
            raise ValueError("no such clip")
        return real(self, clips)

    monkeypatch.setattr(CosyVoiceS3, "encode_clips", refuse)
    assert compare(tars, s3, "--clips", 8, "--at-least", 0) == 1
    assert "2.wav: upstream: backend: ValueError: no such clip" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--backend", "mulaw"), "it has no engine=upstream; these backends have one: cosyvoice_s3, higgs, step_audio"),
        (("--backend", "cosyvoice_s3", "--set", "engine=upstream"), "it is compared with our own engine already"),
        (("--backend", "cosyvoice_s3", "--channel", "split"), "several clips of one"),
    ],
)
def test_usage(tars: Path, words: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 2 with one message, before anything is loaded."""
    assert call(parity, "--list", tars, *words) == 2
    assert expected in capsys.readouterr().err


def test_no_clips(tmp_path: Path, s3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To compare nothing is no success."""
    tar = write_tar(tmp_path / "a.tar", {"a.wav": audio_file(np.zeros(9, np.float32), 16_000)})
    assert compare(write_list(tmp_path / "tars.txt", [tar]), s3) == 2
    assert "no clips but 1 that both engines refuse: nothing was compared" in capsys.readouterr().err


def test_higgs_against_boson(tars: Path, tmp_path: Path) -> None:
    """As a command, each codebook by itself: boson-multimodal's own code on the same checkpoint."""
    model = build_original_layout(tmp_path / "full", full_width=True)
    settings = {"HF_HOME": str(build_hubert_cache(tmp_path / "hf")), "HF_HUB_OFFLINE": "1"}
    settings["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
    words = ["--backend", "higgs", "--model-path", str(model), "--list", str(tars), "--clips", "4", "--device", "cpu"]
    command = [sys.executable, "-m", "tools.parity", *words]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    assert "4 of 4 clips agree in all" in done.stdout
    assert "boson-multimodal 0.1.1" in done.stdout
    assert sum(line.startswith("tokens[") for line in done.stdout.splitlines()) == 8
