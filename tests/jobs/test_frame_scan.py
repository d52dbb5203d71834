"""jobs/frame_scan.py: what the scans of two formats share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

import pytest

from jobs.adts_frames import AdtsScan, scan_adts
from jobs.frame_scan import FrameScan, Gap
from jobs.mp3_frames import Mp3Scan, scan_mp3


@pytest.mark.parametrize("kind", [FrameScan, Mp3Scan, AdtsScan])
def test_scans_share_nothing(kind: type[FrameScan]) -> None:
    """Two files that are decoded at once do not see each other's gaps."""
    first, second = kind(0, 0), kind(0, 0)
    first.gaps.append(Gap(0, 1, 0.0))
    assert second.gaps == []
    assert first.positions is not second.positions


@pytest.mark.parametrize("scan", [scan_mp3, scan_adts])
def test_a_file_without_frames_has_none_of_anything(scan: Callable[[IO[bytes], int, int], FrameScan]) -> None:
    """Neither a rate nor a place; what reads scans can rely on that."""
    found = scan(io.BytesIO(bytes(5000)), 0, 5000)
    assert (found.frames, found.seconds, found.rate, len(found.positions)) == (0, 0.0, 0, 0)
