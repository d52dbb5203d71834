"""jobs/tar_report.py: the log line of a tar, and the message about a broken one."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.manifest import Manifest
from jobs.progress import DeviceSeconds
from jobs.tar_report import describe_broken_tar, describe_tar


def manifest(**fields: Any) -> Manifest:
    return Manifest(tar_file="/in/a.tar", input_bytes=1, input_mtime_ns=2, fingerprint="f", **fields)


def test_a_healthy_tar_is_told_in_one_short_line() -> None:
    """Clips, hours and errors, and nothing about what there was not."""
    found = manifest(clips=1200, audio_seconds=36.0, errors={"decode": 1, "empty": 1})
    assert describe_tar(found, committed=True, on_gpu=True) == "1,200 clips, 0.010 audio-h, 2 errors"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"damaged_clips": 1, "damaged_seconds": 0.5}, "; 1 damaged clip kept (0.500 s missing)"),
        ({"left_out": {".ra": 2}}, ".ra"),
        ({"orphan_sidecars": 2}, "; 2 sidecars without audio of its name, in no record: if they are texts"),
        ({"sidecar_faults": 1}, "; 1 sidecar could not be read, or not all of it: see sidecar_errors"),
        ({"text_encoding": "cp1251"}, "; texts in cp1251"),
        ({"notes": {"opposite_phase": 3}}, "; 3 clips "),
        ({"device_seconds": DeviceSeconds(1.0, 1.0)}, "; device busy 50 %, waiting for audio 50 %"),
    ],
)
def test_what_is_noteworthy_is_added(fields: dict[str, Any], words: str) -> None:
    """Each finding with what it means for the user."""
    assert words in describe_tar(manifest(clips=3, **fields), committed=True, on_gpu=False)


def test_a_tar_without_clips() -> None:
    """Once it is committed that is suspicious; one that was stopped just did not come that far."""
    found = manifest(ignored_members={"other": 7})
    assert "no clips in it (other members: {'other': 7}): is --extensions right?" in describe_tar(
        found, committed=True, on_gpu=False
    )
    assert "no clips" not in describe_tar(found, committed=False, on_gpu=False)


@pytest.mark.parametrize(
    ("verdict", "detail", "advice"),
    [
        ("no_end_marker", "why", "accept it with --allow-missing-end"),
        ("not_a_tar", "why", "check the list"),
        ("cut", "why", "copy it again from its source"),
    ],
)
def test_advice_for_a_broken_tar(verdict: str, detail: str, advice: str) -> None:
    """It depends on how it is broken; the partial is mentioned always."""
    words = describe_broken_tar(manifest(verdict=verdict, verdict_detail=detail, clips=2))
    assert words.startswith(f"/in/a.tar: {verdict}: why. What was read before that (2 clips) is kept in the partial; ")
    assert words.endswith(advice)
