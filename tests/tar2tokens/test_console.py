"""tar2tokens/console.py: the program of a wheel, outside of the checkout, in a folder with packages of the same names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.installed import install, installed_environment, shadows
from support.runs import committed_bytes, speech_list


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a person who has installed tar2tokens."""
    return installed_environment(install(tmp_path_factory.mktemp("installed")))


def run(words: list[object], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command that goes well; returns what it printed."""
    done = subprocess.run([*map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [["tar2tokens"], [sys.executable, "-m", "tar2tokens"]])
@pytest.mark.slow
def test_folders_of_the_same_names(program: list[object], here: Path, environment: dict[str, str]) -> None:
    """Where the current folder, and one that PYTHONPATH names, have `tools`, `hpc`, `jobs` and `audio_tokenizers` of their
    own, our commands, their workers and the processes of a merge import ours.
    """
    listed = speech_list(here / "tars")
    shadows(here)
    shadows(here / "theirs")
    environment = {**environment, "PYTHONPATH": f"{here / 'theirs'}:{environment['PYTHONPATH']}"}
    submit = ["submit", "--list", listed, "--backend", "mulaw", "--cluster", "local", "--workers", "2"]
    run([*program, *submit, "--output-dir", "tokens"], here, environment)
    assert len(committed_bytes(here / "tokens")) == 2
    run([*program, "merge", "--output", "all.jsonl", "--output-dir", "tokens", "--workers", "2"], here, environment)
    assert (here / "all.jsonl").read_bytes().count(b"\n") == 5
    run([*program, "doctor", "--output-dir", "tokens", "--cluster", "local", "--device", "cpu"], here, environment)


@pytest.mark.slow
def test_facade(here: Path, environment: dict[str, str]) -> None:
    """`from tar2tokens import ...` finds our modules too, and needs no torch for what does not need it."""
    shadows(here)
    code = "import sys, tar2tokens; print(tar2tokens.__version__, tar2tokens.read_run.__module__, 'torch' in sys.modules)"
    assert run([sys.executable, "-c", code], here, environment).split()[1:] == ["tools.reader", "False"]
