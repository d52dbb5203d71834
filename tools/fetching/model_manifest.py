"""A manifest in a model directory of what was fetched, to check it without network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.wording import counted
from jobs.any_json import decode_json
from jobs.fileops import FileOps, write_atomically
from tools.common.file_hash import hash_file

__all__ = ["FileEntry", "ModelManifest", "find_faults", "manifest_path", "read_manifest", "write_manifest"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fetched file."""

    size: int
    """Bytes."""
    sha256: str


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `tools.fetch_model NAME` fetched. Several names may share a directory: each has its own manifest."""

    name: str
    source: str
    """huggingface or modelscope."""
    repository: str
    revision: str
    licences: tuple[str, ...]
    files: dict[str, FileEntry]
    """By path in the directory."""


def manifest_path(directory: Path, name: str) -> Path:
    """The manifest of backend or preset `name`."""
    return directory / f".tar2tokens.{name}.json"


def write_manifest(directory: Path, manifest: ModelManifest) -> None:
    """Replace the manifest in one step."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_atomically(FileOps(), manifest_path(directory, manifest.name), data + b"\n")


def read_manifest(directory: Path, name: str) -> ModelManifest | None:
    """None if there is none. Raises ModelFilesError if it is damaged."""
    path = manifest_path(directory, name)
    try:
        return decode_json(path.read_bytes(), ModelManifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ModelFilesError(
            f"{path}: expected a manifest of fetched files, found {error}: remove it or fetch again"
        ) from None


def find_faults(directory: Path, manifest: ModelManifest) -> Iterator[str]:
    """One message for each file that differs from what was fetched."""
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file():
            yield f"{path}: missing, expected {counted(entry.size, 'byte')}"
        elif (size := path.stat().st_size) != entry.size:
            yield f"{path}: expected {counted(entry.size, 'byte')}, found {size:,}"
        elif (found := hash_file(path)) != entry.sha256:
            yield f"{path}: expected sha256 {entry.sha256}, found {found}"
