"""tools/common/rereading.py: a run's tar, as the run read it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from support.small_run import mulaw_spec, small_tar, tokenize

from jobs.manifest import VERDICT_IN_PROGRESS
from jobs.parts import Cutting
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_reader import TarReader
from jobs.text_rules import TextRules
from tools.common.rereading import Rereading


def test_what_a_run_took_for_clips() -> None:
    """Its extensions, whether it looked at first bytes, how it cut; its text rules only where segments depend on them."""
    found = Rereading.of(mulaw_spec(extensions=("flac",), sniff=True, channel="split"), None)
    assert (tuple(found.extensions), found.sniff, found.follow_links) == (("flac",), True, True)
    assert found.texts is None
    spec = mulaw_spec(segments=True)
    assert Rereading.of(spec, None).texts == TextRules()
    assert Rereading.of(spec, None).cutting == Cutting.of(spec)


def test_links_are_clips_but_in_files_from_before_they_were(tmp_path: Path) -> None:
    """A committed file whose manifest does not count them has none; a partial has them whatever its manifest says."""
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path)
    manifest = read_manifest(TarPaths(tmp_path, "a").manifest)
    assert manifest is not None
    before = msgspec.structs.replace(manifest, linked_clips=None)
    assert Rereading.of(mulaw_spec(), manifest).follow_links
    assert not Rereading.of(mulaw_spec(), before).follow_links
    assert Rereading.of(mulaw_spec(), msgspec.structs.replace(before, verdict=VERDICT_IN_PROGRESS)).follow_links


@pytest.mark.parametrize("skipped", [0, 2])
def test_its_clips_are_those_of_the_run(tmp_path: Path, skipped: int) -> None:
    """By index and name; the audio of those that nobody wants is not read."""
    tar = small_tar(tmp_path / "a.tar")
    with TarReader(tar) as reader:
        expected = [(clip.index, clip.name) for clip in reader]
    with Rereading.of(mulaw_spec(), None).open(tar, skip_clips=skipped) as reader:
        found = [(clip.index, clip.name, clip.audio is not None) for clip in reader]
    assert found == [(index, name, index >= skipped) for index, name in expected]


def test_the_runs_share_of_the_clips(tmp_path: Path) -> None:
    """Clip i is the run's record i: what the run left out is no clip here, either."""
    tar = small_tar(tmp_path / "a.tar", clips=12)
    spec = mulaw_spec(subset_ratio=0.4)
    tokenize(tar, tmp_path / "tokens", spec=spec)
    with Rereading.of(spec, None).open(tar) as reader:
        found = [(clip.index, clip.name) for clip in reader]
    lines = (tmp_path / "tokens" / "a.jsonl").read_text().splitlines()
    assert found == [(number, json.loads(line)["audio_file"]) for number, line in enumerate(lines)]
    assert 0 < len(found) < 12
