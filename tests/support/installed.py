"""tar2tokens as people have it: built into a wheel, installed into a folder, and run with no checkout in sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.runs import ROOT

__all__ = ["install", "installed_environment", "shadows"]

LEFT_OUT = ("__pycache__", "*.egg-info", "build")


def install(folder: Path) -> Path:
    """Install a wheel of this tree, without what it needs, into a new folder below `folder`; returns that folder."""
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name in ("README.md", "LICENSE", "pyproject.toml", "setup.cfg"):
            shutil.copy(path, source)
        elif (path / "__init__.py").exists() or path.name == "tokenizers":
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    target = folder / "site"
    words = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *words, "--target", target, source], check=True)
    return target


def installed_environment(site: Path) -> dict[str, str]:
    """The environment in which what is installed in `site` is found, and nothing of this checkout."""
    path = os.pathsep.join([str(site / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": ""}


def shadows(folder: Path) -> None:
    """Put into `folder` what a person may have there: packages and modules with our names, which say so when imported."""
    for name in ("tools/__init__.py", "hpc/__init__.py", "jobs.py", "audio_tokenizers.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise SystemExit('{name} of the current folder was imported')\n")
