"""Makefile: `make` says what there is, and does nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.runs import ROOT, tree

MAKE = shutil.which("make")


@pytest.mark.skipif(MAKE is None, reason="there is no make here")
@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_it_shows_the_targets_and_touches_nothing(here: Path, arguments: list[str]) -> None:
    """Each target with a line; no folder is made, and none is deleted, such as the demo that a person has kept."""
    shutil.copy(ROOT / "Makefile", here)
    (here / "demo").mkdir()
    (here / "demo" / "mine.txt").write_text("x")
    before = tree(here)
    done = subprocess.run([str(MAKE), *arguments], cwd=here, capture_output=True, text=True, check=True)
    shown = re.findall(r"^  ([a-z-]+) +\S.*$", done.stdout, re.MULTILINE)
    assert {"help", "demo", "quick", "test", "test-gpu", "lint", "format", "bench", "clean"} <= set(shown)
    assert done.stderr == ""
    assert tree(here) == before
