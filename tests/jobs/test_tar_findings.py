"""jobs/tar_findings.py: what the manifest says of a tar, whole or damaged."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from support.tars import audio_file, noise, tar_bytes

from jobs.manifest import VERDICT_IN_PROGRESS
from jobs.tar_findings import findings_of, versions
from jobs.tar_format import TarDamage
from jobs.tar_reader import TarReader


def test_findings_of_a_tar(tmp_path: Path) -> None:
    """Members that are no clips are counted by reason; that the tar is complete is for the commit to say."""
    members = {"a.wav": audio_file(noise(100)), "b.txt": b"no audio of this name", "c.bin": b"x"}
    (tmp_path / "a.tar").write_bytes(tar_bytes(members.items()))
    with TarReader(tmp_path / "a.tar") as reader:
        assert [clip.name for clip in reader] == ["a.wav"]
        found = findings_of(reader, None)
    assert (found.ignored_members, found.orphan_sidecars, found.linked_clips) == ({"other": 1}, 1, 0)
    assert (found.verdict, found.verdict_offset) == (VERDICT_IN_PROGRESS, None)
    assert found.versions == versions()


def test_findings_of_damage() -> None:
    """How, where and in what words; also where nothing could be read before it."""
    found = findings_of(None, TarDamage("bad_header", 512, "what was found"))
    assert (found.verdict, found.verdict_offset) == ("bad_header", 512)
    assert "what was found" in found.verdict_detail


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as this project itself in a checkout: that is written down, and stops nothing."""

    def version(package: str) -> str:
        if package == "tar2tokens":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = versions.__wrapped__()
    assert (found["tar2tokens"], found["numpy"]) == ("not installed", "1.2")
