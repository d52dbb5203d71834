"""Checks of a model directory: against its manifest, or by the backend itself."""

from __future__ import annotations

from pathlib import Path

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.wording import counted
from tools.fetching.model_manifest import ModelManifest, find_faults, read_manifest

__all__ = ["is_right", "tell_all_right"]


def is_right(name: str, directory: Path) -> bool:
    """Check against the manifest; without one, let the backend inspect the files."""
    if not directory.is_dir():
        raise UsageError(f"{directory}: there is no such folder: give --to, or fetch it without --verify")
    manifest = read_manifest(directory, name)
    if manifest is None:
        return _looks_right(name, directory)
    faults = list(find_faults(directory, manifest))
    if faults:
        print(*faults, sep="\n")
        wrong = f"{len(faults)} of {counted(len(manifest.files), 'file')} wrong"
        print(f"{wrong}: without --verify this command fetches those again")
        return False
    tell_all_right(directory, manifest)
    return True


def _looks_right(name: str, directory: Path) -> bool:
    from tools.fetching.model_check import describe_directory

    try:
        describe_directory(name, directory)
    except ModelFilesError as error:
        print(error)
        return False
    print(f"{directory}: what {name} needs is there and looks whole; there is no manifest, so no hash was checked")
    return True


def tell_all_right(directory: Path, manifest: ModelManifest) -> None:
    """Print that the files match the manifest."""
    origin = f"{manifest.repository} at {manifest.revision}"
    print(f"{directory}: {counted(len(manifest.files), 'file')} of {origin}, all sizes and hashes right")
