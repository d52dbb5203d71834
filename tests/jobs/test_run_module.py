"""jobs/run_module.py: a process of ours imports our packages, wherever it begins and whatever else is called so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.installed import shadows
from support.runs import ROOT

from jobs.run_module import module_command

SAY = "import sys, jobs, hpc, tools, audio_tokenizers; print([m.__file__ for m in (jobs, hpc, tools, audio_tokenizers)])"
ASK = "import runpy; runpy.run_path(sys.argv[1])['own_packages_first'](); "


def python(code: str, here: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, in a process to which no environment names this checkout."""
    words = [sys.executable, "-c", code, str(ROOT / "jobs" / "run_module.py")]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(words, cwd=here, env={**clean, **environment}, capture_output=True, text=True, check=False)


def child(here: Path, *words: str, **environment: str) -> str:
    """What a child prints that goes well."""
    command = module_command(*words)
    done = subprocess.run(command, cwd=here, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("where", [".", "theirs"])
def test_a_child_runs_our_module(here: Path, where: str) -> None:
    """It is that of this checkout, with its own arguments, whatever the current folder or one of PYTHONPATH has."""
    shadows(here / where)
    for module in ("hpc.task", "tools.doctoring.host_probe"):
        said = child(here, module, "--help", PYTHONPATH=str(here / "theirs"))
        assert said.startswith(f"usage: python -m {module} ")


@pytest.mark.parametrize("safe", ["", "1"])
def test_what_a_child_finds(here: Path, safe: str) -> None:
    """Neither the current folder nor that of this file, whose modules have everyday names; all of PYTHONPATH."""
    (here / "theirs").mkdir()
    (here / "theirs" / "probe.py").write_text("import sys\nprint(sys.path, sys.argv[1:])")
    said = child(here, "probe", "x y", PYTHONPATH=str(here / "theirs"), PYTHONSAFEPATH=safe)
    assert said.startswith(f"['{here / 'theirs'}', ")
    assert said.endswith(" ['x y']\n")
    assert not {f"'{here}'", "''", f"'{ROOT / 'jobs'}'"} & set(re.findall(r"'[^']*'", said))


def test_arguments() -> None:
    """Paths and numbers become words; the module's name is among the first, by which a task is known."""
    command = module_command("hpc.task", Path("/run/my plan.json"), "--elements", 4)
    assert command[0] == sys.executable
    assert command[3:] == ["hpc.task", "/run/my plan.json", "--elements", "4"]


def test_our_packages_come_first(here: Path) -> None:
    """A process that asks for it finds ours under all four names, and asking twice is as good as once."""
    shadows(here)
    done = python("import sys; " + 2 * ASK + SAY, here)
    assert done.stdout.count(str(ROOT)) == 4, done.stderr


def test_another_package_that_is_there_already(here: Path) -> None:
    """A process that has imported somebody else's `tools` is told whose, and what to do; its own goes on working."""
    (here / "tools").mkdir()
    (here / "tools" / "__init__.py").write_text("")
    done = python("import sys, tools; " + ASK, here)
    assert done.returncode == 1
    assert f"ImportError: this process has imported tools from {here}/tools/__init__.py, and tar2tokens has" in done.stderr
    assert "rename that one" in done.stderr
