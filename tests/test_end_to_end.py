"""The path of a new user: pack real speech, list it, tokenize it with each backend, check it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_higgs import build_original_layout, build_transformers_layout

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
        timeout=240,
    )


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packed examples and their list."""
    folder = tmp_path_factory.mktemp("speech")
    subprocess.run([sys.executable, str(ROOT / "examples" / "pack_speech.py"), str(folder / "tars")], check=True)
    listed = run("tools.generate_tar_list", "--input-dir", "tars", "--output-file", "tars.txt", folder=folder)
    assert listed.returncode == 0, listed.stderr
    return folder


@pytest.mark.parametrize("backend", ["mulaw", "higgs original", "higgs transformers"])
def test_real_speech_becomes_valid_tokens(backend: str, speech: Path, tmp_path: Path) -> None:
    """Every clip of the examples has tokens, a duration and its transcript, and the run checks as valid."""
    name, _, layout = backend.partition(" ")
    model: list[str] = []
    if layout:
        build = build_original_layout if layout == "original" else build_transformers_layout
        build(tmp_path / "model")
        model = ["--model-path", str(tmp_path / "model")]
    tokens = str(tmp_path / "my tokens")
    arguments = ("--list", "tars.txt", "--backend", name, *model, "--cluster", "local")
    submitted = run("hpc.submit", *arguments, "--output-dir", tokens, folder=speech)
    assert submitted.returncode == 0, submitted.stderr
    checked = run("tools.check_progress", "--output-dir", tokens, "--check-validity", "--json", folder=speech)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads(checked.stdout)
    assert (report["completed"], report["clips"], report["errors"], report["invalid"]) == (2, 5, {}, 0)
    assert 24.0 < report["audio_hours"] * 3600 < 25.0
    lines = [json.loads(line) for path in sorted(Path(tokens).glob("*.jsonl")) for line in path.read_text().splitlines()]
    texts = [line.get("text") for line in lines]
    assert texts[1] == "he was not an ill disposed young man"
    assert [text is not None for text in texts] == [True, True, True, True, False]
    assert lines[0]["language"] == "en"
    assert lines[0]["metadata"]["speaker"] == "librivox"
    codebooks, rate = (8, 25) if name == "higgs" else (1, 8000)
    for line in lines:
        assert line["token_shape"][0] == codebooks
        assert abs(line["token_shape"][1] - line["num_samples"] / line["sample_rate"] * rate) < 2
        assert len({token for row in line["tokens"] for token in row}) > 20
    again = run("hpc.submit", *arguments, "--output-dir", tokens, folder=speech)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
