"""tools/fetching/model_manifest.py: a directory is compared with what was fetched into it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from audio_tokenizers.errors import ModelFilesError
from tools.fetching.model_manifest import (
    FileEntry,
    ModelManifest,
    find_faults,
    manifest_path,
    read_manifest,
    write_manifest,
)

DATA = {"config.json": b"{}", "sub/model.bin": b"weights" * 1000}


@pytest.fixture
def manifest(tmp_path: Path) -> ModelManifest:
    """Of two files that are there."""
    for name, data in DATA.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in DATA.items()}
    return ModelManifest(name="toy", source="huggingface", repository="a/b", revision="c", licences=("MIT",), files=files)


def test_what_is_written_is_read_back(tmp_path: Path, manifest: ModelManifest) -> None:
    """Each name has a manifest of its own, for a directory that two backends share."""
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path, "toy") == manifest
    assert read_manifest(tmp_path, "another") is None


@pytest.mark.parametrize("data", [b"", b'{"name": "toy"', b"[]"])
def test_a_damaged_manifest_is_named(tmp_path: Path, data: bytes) -> None:
    """It is never taken for an empty one."""
    manifest_path(tmp_path, "toy").write_bytes(data)
    with pytest.raises(ModelFilesError, match=r"\.tar2tokens\.toy\.json: expected a manifest"):
        read_manifest(tmp_path, "toy")


def test_right_files_have_no_faults(tmp_path: Path, manifest: ModelManifest) -> None:
    """What else lies in the directory does not matter."""
    (tmp_path / "notes.txt").write_text("mine")
    assert list(find_faults(tmp_path, manifest)) == []


def test_each_fault_is_named(tmp_path: Path, manifest: ModelManifest) -> None:
    """A cut file by its size, a changed one by its hash, a lost one by its absence."""
    (tmp_path / "config.json").write_bytes(b"[]")
    (tmp_path / "sub/model.bin").write_bytes(DATA["sub/model.bin"][:-1])
    config, model = find_faults(tmp_path, manifest)
    found = hashlib.sha256(b"[]").hexdigest()
    assert config == f"{tmp_path}/config.json: expected sha256 {hashlib.sha256(b'{}').hexdigest()}, found {found}"
    assert model == f"{tmp_path}/sub/model.bin: expected 7,000 bytes, found 6,999"
    (tmp_path / "sub/model.bin").unlink()
    assert list(find_faults(tmp_path, manifest))[1] == f"{tmp_path}/sub/model.bin: missing, expected 7,000 bytes"
