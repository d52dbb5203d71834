"""jobs/train_taste.py: the whole way from a tar to a trained model, over processes, through signals, and its messages."""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import ROOT
from support.small_run import wav, write_tar
from support.taste_runs import make_taste_run, some_speech
from support.tiny_cosyvoice_text import MERGES, SPECIAL_TOKENS, WIDTH, write_tiktoken
from support.tiny_s3 import build_s3_onnx
from support.tiny_speech_lm import Sizes, build_speech_lm
from support.tiny_whisper import build_whisper

from audio_tokenizers.errors import UsageError
from jobs.predict_taste import predict_taste
from jobs.taste.checkpoint import read_checkpoint
from jobs.train_taste import train_taste

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_speech_lm(tmp_path_factory.mktemp("taste") / "model")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_taste_run(tmp_path_factory.mktemp("taste") / "run", {"a": some_speech(23)})


def command(model: Path, run: Path, folder: Path, *more: str) -> list[str]:
    config = folder.with_suffix(".yaml")
    config.write_text(
        "epochs: 3\ntest_ratio: 0.2\nlearning_rate: 0.003\nbatch_size: 5\nfreeze: [stack]\ncheckpoint_steps: 2\n"
    )
    words = ["--config", config, "--model-path", model, "--data", run, "--output-dir", folder, "--device", "cpu", *more]
    return [sys.executable, "-m", "jobs.train_taste", *map(str, words)]


def environment(**variables: object) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in variables.items()}}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


@pytest.mark.usefixtures("untouched_log")
def test_from_a_tar_to_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Features in one pass, trained on, drawn and decoded; the figures get better."""
    sizes = Sizes(text_rows=256 + MERGES + 1 + SPECIAL_TOKENS["whisper"], text_width=WIDTH, units=4096)
    models = tmp_path / "models"
    cosyvoice = build_speech_lm(models / "CosyVoice-300M", sizes)
    write_tiktoken(cosyvoice / "multilingual.tiktoken")
    build_s3_onnx(cosyvoice / "speech_tokenizer_v1.onnx", rate=50)
    build_whisper(models / "whisper-large-v3")
    members: dict[str, bytes] = {}
    for number in range(10):
        members[f"{number}.wav"] = wav(4000 + 500 * number, 16000, seed=number)
        members[f"{number}.txt"] = f"number {number}".encode() if number < 9 else b""
    tar = write_tar(tmp_path / "speech.tar", members)
    run = tmp_path / "features"
    words = ["--input-tar", tar, "--backend", "taste", "--model-path", models, "--output-dir", run, "--device", "cpu"]
    words += ["--set", "whisper_features.layer=1"]
    subprocess.run(
        [sys.executable, "-m", "jobs.tokenize_tar", *map(str, words)], env=environment(), check=True, capture_output=True
    )
    runs = [run]
    config = tmp_path / "taste.yaml"
    config.write_text("freeze: [stack]\nepochs: 4\nlearning_rate: 0.01\ntest_ratio: 0.3\n")
    out = tmp_path / "trained"
    assert train_taste(runs, out, config, model_path=str(cosyvoice), device="cpu") == 0
    assert (out / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert float(rows(out)[-1]["train_loss"]) < float(rows(out)[0]["train_loss"]) < 9.5
    assert rows(out)[-1]["test_loss"]
    assert list((out / "tensorboard").iterdir())
    said = capsys.readouterr().err
    assert f"{run}: 1 clips have errors instead of tokens (1 no_text)" in said
    assert re.search(r"Epoch 04 \| train loss \d+\.\d+ \| train acc 0\.\d+ \| test loss \d+\.\d+ \| test acc 0\.\d+", said)
    assert predict_taste(out, runs, tmp_path / "p.jsonl", clips=2, part="train", device="cpu") == 0
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 2


def test_two_processes_train_as_one(tmp_path: Path, model: Path, run: Path) -> None:
    """Over gloo, with shares of unequal sizes: the figures of one process, to rounding; rank 0 alone writes."""
    subprocess.run(command(model, run, tmp_path / "one"), env=environment(), check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [
        subprocess.Popen(
            command(model, run, tmp_path / "two"),
            env=environment(WORLD_SIZE=2, RANK=rank, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "Epoch 03" in said[0]
    assert "Epoch" not in said[1]
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert {name: pytest.approx(float(value), abs=2e-4, rel=2e-4) for name, value in one.items()} == {
            name: float(value) for name, value in two.items()
        }


def test_a_signal_ends_it_at_a_checkpoint(tmp_path: Path, model: Path, run: Path) -> None:
    """SIGTERM: exit code 143, a checkpoint of the last step, and the same command goes on to the end."""
    whole = tmp_path / "whole"
    subprocess.run(command(model, run, whole), env=environment(), check=True, capture_output=True)
    folder = tmp_path / "stopped"
    words = command(model, run, folder, "--epochs", "100000")
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Epoch 01" in line:
            process.send_signal(signal.SIGTERM)
            break
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "interrupted: run the same command again to go on" in said
    stopped = read_checkpoint(folder)
    assert stopped is not None
    assert stopped.epoch >= 1
    more = stopped.epoch + 2
    done = subprocess.run(
        command(model, run, folder, "--epochs", str(more)), env=environment(), check=True, capture_output=True, text=True
    )
    assert f"going on after step {stopped.step}" in done.stderr
    assert len(rows(folder)) == more
    common = min(3, more)
    assert rows(folder)[:common] == rows(whole)[:common]


@pytest.mark.usefixtures("untouched_log")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_path": None}, "--model-path: expected the folder of CosyVoice-300M"),
        ({"subset_ratio": 1e-9}, "none of 23 clips is left to train on"),
        ({"config": Path("nowhere.yaml")}, "^nowhere.yaml: expected a YAML file with settings"),
        ({"test_data": [Path("nowhere")]}, "nowhere: no run here"),
    ],
)
def test_messages(tmp_path: Path, model: Path, run: Path, settings: dict[str, Any], message: str) -> None:
    """What is missing is told before anything is trained."""
    with pytest.raises(UsageError, match=message):
        train_taste([run], tmp_path / "out", **{"model_path": str(model), "device": "cpu", **settings})
