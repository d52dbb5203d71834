"""setup.cfg: a wheel holds all of the packages; one that its list forgets would be missed by its users only."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.runs import ROOT

NO_PRODUCT = {"tests", "benchmarks"}
"""Packages of a checkout that nobody installs."""


@pytest.mark.slow
def test_the_wheel_has_every_file_of_every_package(tmp_path: Path) -> None:
    """Built without a network from a copy of the tree: each module, preset and py.typed is in it, and nothing else."""
    folders = dict(product_folders())
    source = tmp_path / "source"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for folder in folders.values():
        shutil.copytree(folder, source / folder.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected


def product_folders() -> Iterator[tuple[str, Path]]:
    """(top-level package, its folder) of all that is installed: what setup.cfg maps, and the packages beside it."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    for line in config["options"]["package_dir"].split("\n"):
        if line:
            package, folder = (part.strip() for part in line.split("="))
            yield package, ROOT / folder
    for init in ROOT.glob("*/__init__.py"):
        if init.parent.name not in NO_PRODUCT:
            yield init.parent.name, init.parent
