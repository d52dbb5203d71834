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

ASK = """
import contextlib, io, json, runpy, sys
module, flags = sys.argv[1], sys.argv[2:]
for flag in flags:
    said, code = io.StringIO(), None
    sys.argv = ["command", flag]
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            code = end.code
    print(json.dumps([flag, code, said.getvalue()]))
"""


def commands(*folders: str) -> list[str]:
    """Modules that do something when they are run, but for the one that runs another."""
    found = [
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if '__name__ == "__main__"' in path.read_text()
    ]
    return sorted({".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found} - {"jobs.run_module"})


def ask(here: Path, module: str, *flags: str) -> dict[str, tuple[object, str]]:
    """Flag -> exit code and words, all in one process: its imports are what takes time."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers")])
    done = subprocess.run(
        [sys.executable, "-c", ASK, module, *flags],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {flag: (code, words) for flag, code, words in map(json.loads, done.stdout.splitlines())}


def test_all_are_found() -> None:
    """The test below is about more than a handful."""
    assert {"hpc.submit", "hpc.task", "jobs.tokenize_tar", "tools.check_progress"} <= set(commands("hpc", "jobs", "tools"))


@pytest.mark.slow
@pytest.mark.parametrize("module", commands("hpc", "jobs", "tar2tokens", "tools", "benchmarks"))
def test_help_and_version(here: Path, module: str) -> None:
    """-h and --help say how to use it, --version which one it is; a word that it does not know ends with exit code 2."""
    answers = ask(here, module, "-h", "--help", "--version", "--no-such-option")
    for flag in ("-h", "--help"):
        code, words = answers[flag]
        assert code == 0
        assert re.search(r"usage: ", words, re.IGNORECASE)
        assert "--version" in words
    assert answers["--version"][0] == 0
    assert re.fullmatch(r"tar2tokens \d+\.\d+\S*\n", answers["--version"][1])
    assert answers["--no-such-option"][0] == 2
    assert list(here.iterdir()) == []
