"""tools/doctoring/host_probe.py: what a host says of itself."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.tars import tar_bytes
from support.tiny_hf import build

from tools.common.file_hash import hash_file
from tools.doctoring.host_probe import Driver, main, parse_driver
from tools.fetching.model_manifest import FileEntry, ModelManifest, write_manifest

TABLE = "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n"


def facts(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What one check answers."""
    assert main([str(word) for word in words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(autouse=True)
def environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the probe sets in its process does not outlast a test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def test_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, driver and CUDA; a driver that does not answer is told in its own words."""
    assert parse_driver("NVIDIA A100, SXM, 550.54.15\nNVIDIA A100, SXM, 550.54.15\n", TABLE) == Driver(
        ("NVIDIA A100, SXM", "NVIDIA A100, SXM"), "550.54.15", "12.4"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts(capsys, "driver")["facts"]["error"] == "there is no nvidia-smi"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'\nexit 9\n")
    program.chmod(0o755)
    assert "has failed" in facts(capsys, "driver")["facts"]["error"]


def test_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its limits; a TMPDIR where nothing can be written is none. The node's name comes along."""
    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    said = facts(capsys, "host")
    assert said["node"] == "n3"
    assert said["facts"]["open_files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert said["facts"]["temporary_free"] > 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert facts(capsys, "host")["facts"]["temporary_free"] is None


def test_torch_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Installed for the tests; it says which build."""
    import torch

    found = facts(capsys, "torch")["facts"]
    assert found["cuda"] == (torch.version.cuda or "")
    assert found["mps"] == ("available" if torch.backends.mps.is_available() else "")


@pytest.mark.slow
def test_weights_by_the_backends_own_look_and_by_hashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole; then with a manifest; then damaged, which only the hash shows; then cut."""
    directory = tmp_path / "mimi"
    build(directory, "mimi")
    words = "weights", "--backend", "mimi", "--model-path", directory
    assert "no hashes" in facts(capsys, *words)["facts"]["checked"]
    files = {path.name: FileEntry(path.stat().st_size, hash_file(path)) for path in directory.iterdir()}
    write_manifest(
        directory,
        ModelManifest(name="mimi", source="huggingface", repository="a/b", revision="1", licences=(), files=files),
    )
    assert "sizes and hashes right" in facts(capsys, *words)["facts"]["checked"]
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "expected sha256" in facts(capsys, *words)["facts"]["error"]
    path.write_bytes(data[:-10])
    assert "download it again" in facts(capsys, *words)["facts"]["error"]


def test_weights_are_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub id that is not in the cache is missing, without a question to the hub."""
    import socket

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it asked the network"))
    error = facts(capsys, "weights", "--backend", "mimi")["facts"]["error"]
    assert "there is no such folder here, and as a hub id it is not in the local Hugging Face cache" in error


def test_mulaw_needs_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor torch."""
    said = facts(capsys, "weights", "--backend", "mulaw")["facts"]
    assert (said["checked"], said["needs_torch"]) == ("it needs none", False)


def test_tars_of_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What hpc.submit would refuse is named, with the reason; a list that is missing is the caller's error."""
    whole = tar_bytes([("a.wav", b"x")])
    (tmp_path / "a.tar").write_bytes(whole)
    (tmp_path / "text.tar").write_text("hello")
    (tmp_path / "list").write_text("".join(f"{tmp_path}/{name}.tar\n" for name in ("a", "b", "text")))
    said = facts(capsys, "tars", "--list", tmp_path / "list")["facts"]
    assert (said["tars"], said["bytes"], said["bad_count"]) == (3, len(whole), 2)
    assert said["bad"] == [
        f"{tmp_path}/b.tar: there is no such file",
        f"{tmp_path}/text.tar: expected a tar header of 512 bytes, found a file of 5 bytes",
    ]
    assert facts(capsys, "tars", "--list", tmp_path / "gone")["usage"] is True


@pytest.mark.timeout(60)
def test_a_fifo_in_a_list_is_never_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever opens one waits for its writer: the doctor would take that for a file system that hangs."""
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "list").write_text(f"{tmp_path}/pipe.tar\n")
    assert facts(capsys, "tars", "--list", tmp_path / "list")["facts"]["bad"] == [
        f"{tmp_path}/pipe.tar: expected a tar, found a FIFO"
    ]


def test_paths_to_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are not there."""
    assert facts(capsys, "see", "--see", tmp_path, "--see", tmp_path / "x")["facts"]["missing"] == [str(tmp_path / "x")]
