"""The tars of a folder that `jobs.tokenize_tar` has written to and that is no run yet, as their manifests name them."""

from __future__ import annotations

import os
from pathlib import Path

from audio_tokenizers.errors import UsageError
from hpc.tar_list import natural_order
from jobs.tar_paths import read_manifest

__all__ = ["tars_by_hand"]

FOLDERS = ("manifests", "attempts")
SUFFIX = ".json"


def tars_by_hand(run_folder: Path) -> dict[str, str]:
    """Tar -> output name, in natural order of the names.

    Where no manifest can be read, the name also stands for the tar; the scan reports what is wrong.
    """
    found: dict[str, str] = {}
    for name in sorted(_names(run_folder), key=natural_order):
        tar = next((tar for folder in FOLDERS if (tar := _tar_of(run_folder / folder / f"{name}{SUFFIX}"))), name)
        found.setdefault(tar, name)
    return found


def _names(run_folder: Path) -> set[str]:
    found = set()
    for kind in FOLDERS:
        for folder, _, files in os.walk(run_folder / kind):
            below = Path(folder).relative_to(run_folder / kind)
            found |= {str(below / file.removesuffix(SUFFIX)) for file in files if _is_manifest(file)}
    return found


def _is_manifest(file: str) -> bool:
    return file.endswith(SUFFIX) and not file.startswith(".")


def _tar_of(path: Path) -> str | None:
    try:
        manifest = read_manifest(path)
    except (UsageError, OSError):
        return None
    if manifest is None or any(character in manifest.tar_file for character in "\t\n"):
        return None  # a list cannot hold it
    return manifest.tar_file
