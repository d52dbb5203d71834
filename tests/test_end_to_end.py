"""The path of a new user: pack real speech, list it, tokenize it with each backend, check it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.packed_speech import pack_speech
from support.tiny_models import build_model

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of ours, as a user types it in a checkout."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packed examples and their list."""
    folder = tmp_path_factory.mktemp("speech")
    pack_speech(folder / "tars")
    listed = run("tools.generate_tar_list", "--input-dir", "tars", "--output-file", "tars.txt", folder=folder)
    assert listed.returncode == 0, listed.stderr
    return folder


RATES: dict[str, dict[str, float]] = {
    "mulaw": {"tokens": 8000},
    "higgs": {"tokens": 25},
    "step_audio": {"tokens": 25 * 5 / 3, "vq02": 50 / 3, "vq06": 25},
    "cosyvoice_s3": {"tokens": 25},
    "bicodec": {"semantic_tokens": 50},
    "mimi": {"tokens": 12.5},
    "xcodec": {"tokens": 50},
    "whisper_features": {"mid": 50, "final": 50},
    "cosyvoice_text": {},
    "taste": {"mid": 50, "final": 50, "tokens": 50},
}
"""Items of a key per second of audio."""


def count(value: object) -> tuple[int, int]:
    """How many items a key has, and how many of them differ."""
    if isinstance(value, str):
        items: list[object] = list(re.findall("<audio_([0-9]+)>", value))
    elif isinstance(value, dict):
        return value["shape"][0], value["shape"][0]
    else:
        assert isinstance(value, list)
        items = value[0] if isinstance(value[0], list) else value
    return len(items), len(set(items))


@pytest.mark.slow
@pytest.mark.parametrize("backend", RATES)
def test_real_speech_becomes_valid_tokens(backend: str, speech: Path, tmp_path: Path) -> None:
    """Every clip of the examples has tokens, a duration and its transcript, and the run checks as valid."""
    tokens = tmp_path / "my tokens"
    model = build_model(backend, tmp_path)
    # Two workers, one per tar, where that says something of its own: each takes seconds to import what most backends need.
    workers = () if backend in ("mulaw", "higgs") else ("--workers", "1")
    where = ("--cluster", "local", *workers, "--output-dir", str(tokens))
    arguments = ("--list", "tars.txt", "--backend", backend, *model, *where)
    submitted = run("hpc.submit", *arguments, folder=speech)
    assert submitted.returncode == 0, submitted.stderr
    checked = run("tools.check_progress", "--output-dir", str(tokens), "--check-validity", "--json", folder=speech)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads(checked.stdout)
    no_text = {"no_text": 1} if backend in ("cosyvoice_text", "taste") else {}
    assert (report["completed"], report["clips"], report["errors"], report["invalid"]) == (2, 5, no_text, 0)
    lines = [json.loads(line) for path in sorted(tokens.glob("*.jsonl")) for line in path.read_text().splitlines()]
    good = [line for line in lines if "error" not in line]
    assert [line.get("text") is not None for line in good] == [True] * 4 + [False] * (len(good) - 4)
    assert good[1]["text"] == "he was not an ill disposed young man"
    assert good[0]["language"] == "en"
    assert good[0]["metadata"]["speaker"] == "librivox"
    seconds = [line["num_samples"] / line["sample_rate"] for line in good]
    assert len(good) == 4 or 24.0 < sum(seconds) < 25.0
    for line, duration in zip(good, seconds, strict=True):
        for key, rate in RATES[backend].items():
            items, kinds = count(line[key])
            assert abs(items - duration * rate) < 6
            assert kinds > min(items / 10, 20)
    if backend == "bicodec":
        assert {len(line["global_tokens"]) for line in good} == {32}
    features = [load_file(path) for path in sorted(tokens.glob("*.safetensors"))]
    assert len(features) == (2 if backend in ("whisper_features", "cosyvoice_text", "taste") else 0)
    for tensors in features:
        assert all(np.isfinite(array).all() and array.astype(np.float32).std() > 0 for array in tensors.values())
    if backend == "mulaw":
        again = run("hpc.submit", *arguments, folder=speech)
        assert again.returncode == 0
        assert "nothing to do" in again.stdout
