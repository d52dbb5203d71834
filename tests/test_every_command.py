"""Every `python -m` of this repository answers -h and --version, at once and without doing anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import ROOT

FLAGS = ("-h", "--help", "--version", "--no-such-option")

# Packages of others are imported once; each command imports ours in a process of its own.
ASK = """
import contextlib, io, json, os, runpy, sys
import msgspec, numpy, typer, yaml

def answers(module, flags):
    found = {}
    for flag in flags:
        said, code = io.StringIO(), None
        sys.argv = ["command", flag]
        with contextlib.redirect_stdout(said):
            try:
                runpy.run_module(module, run_name="__main__")
            except SystemExit as end:
                code = end.code
        found[flag] = code, said.getvalue()
    return found

folder, flags, modules = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
for module in modules:
    if os.fork() == 0:
        os.mkdir(f"{folder}/{module}")
        os.chdir(f"{folder}/{module}")
        print(json.dumps([module, answers(module, flags)]), flush=True)
        os._exit(0)
    os.wait()
"""


def commands(*folders: str) -> list[str]:
    """Modules that do something when they are run, but for the one that runs another."""
    found = [
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if '__name__ == "__main__"' in path.read_text()
    ]
    return sorted({".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found} - {"jobs.run_module"})


EVERY = commands("hpc", "jobs", "tar2tokens", "tools", "benchmarks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each command has an empty folder."""
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, dict[str, tuple[object, str]]]:
    """Module -> flag -> exit code and words."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(folder), " ".join(FLAGS), *EVERY],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(map(json.loads, done.stdout.splitlines()))
    assert sorted(found) == EVERY, done.stderr
    return found


def test_all_are_found() -> None:
    """The test below is about more than a handful."""
    assert {"hpc.submit", "hpc.task", "jobs.tokenize_tar", "tools.check_progress"} <= set(commands("hpc", "jobs", "tools"))


@pytest.mark.slow
@pytest.mark.parametrize("module", EVERY)
def test_help_and_version(answers: dict[str, dict[str, tuple[object, str]]], folder: Path, module: str) -> None:
    """-h and --help say how to use it, --version which one it is; a word that it does not know ends with exit code 2."""
    for flag in ("-h", "--help"):
        code, words = answers[module][flag]
        assert code == 0
        assert re.search(r"usage: ", words, re.IGNORECASE)
        assert "--version" in words
    assert answers[module]["--version"][0] == 0
    assert re.fullmatch(r"tar2tokens \d+\.\d+\S*\n", answers[module]["--version"][1])
    assert answers[module]["--no-such-option"][0] == 2
    assert list((folder / module).iterdir()) == []
