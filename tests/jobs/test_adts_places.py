"""jobs/adts_places.py: what gaps between frames of raw AAC say of the frames that are missing there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.near import approx

from jobs.adts_frames import AdtsScan
from jobs.adts_places import missing_frames
from jobs.frame_scan import Gap

SIZES = [100, 110, 95, 105] * 60
FRAME = 0.064


def scan(missing: dict[int, int], *, stated: bool, later: int = 0) -> AdtsScan:
    """Frames of SIZES, some of which are gaps: the first that is missing -> how many. Gaps are `later` bytes longer."""
    begins = np.concatenate([[0], np.cumsum(SIZES)])
    gone = {number for first, count in missing.items() for number in range(first, first + count)}
    shifts = [later * sum(first < number for first in missing) for number in range(len(begins))]
    begins += np.array(shifts)
    gaps = [Gap(int(begins[first]), int(begins[first + count]), FRAME * count) for first, count in missing.items()]
    there = [number for number in range(len(SIZES)) if number not in gone]
    told = {gap.begin for gap in gaps} if stated else set()
    return AdtsScan(
        int(begins[there[0]]),
        int(begins[-1]),
        len(there),
        FRAME * len(there),
        rate=16000,
        samples_per_frame=1024,
        gaps=gaps,
        stated=told,
        positions=begins[there],
    )


def test_frames_that_their_headers_still_tell_of() -> None:
    """What follows is where it was, by its place in the file without the gaps; only of a first one, and one that does not
    follow the one before, it is said where.
    """
    found = scan({5: 1, 50: 1}, stated=True)
    missing = missing_frames(found, found.gaps)
    assert (missing.most_seconds, missing.torn) == (approx(2 * FRAME), False)
    assert missing.times_at is not None
    places = np.concatenate([[0], np.cumsum([size for number, size in enumerate(SIZES) if number not in (5, 50)])]).tolist()
    told = {number: missing.times_at(places[number]) for number in range(len(SIZES) - 2)}
    expected = {0: 0, 5: 6, 49: 51}
    assert {number: times for number, times in told.items() if times is not None} == {
        number: (approx(true * FRAME), approx((true + 1) * FRAME)) for number, true in expected.items()
    }
    again = missing_frames(found, found.gaps).times_at
    assert again is not None
    assert [again(places[number]) for number in (3, 4, 9, 10, 20)] == [
        (approx(3 * FRAME), approx(4 * FRAME)),
        None,
        (approx(10 * FRAME), approx(11 * FRAME)),
        None,
        (approx(21 * FRAME), approx(22 * FRAME)),
    ]
    assert again(places[30] + 1) is None
    assert again(places[31]) == (approx(32 * FRAME), approx(33 * FRAME))
    assert again(10**9) is None


def test_no_gaps() -> None:
    """All is in its place, and frames that FFmpeg refuses tell of themselves."""
    found = scan({}, stated=False)
    missing = missing_frames(found, [])
    assert (missing.most_seconds, missing.torn) == (0.0, False)
    assert missing.times_at is not None
    assert missing.times_at(0) == (0.0, approx(FRAME))


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 2), (8, 9), (20, 23)])
def test_bytes_that_have_room_for_frames(count: int, most: int) -> None:
    """As many as the smallest frames nearby may be missing; nobody knows where what follows was."""
    found = scan({50: count}, stated=False)
    missing = missing_frames(found, found.gaps)
    assert missing.times_at is None
    assert (missing.most_seconds, missing.torn) == (approx(most * FRAME), False)


def test_bytes_that_are_no_frames() -> None:
    """Fewer than a frame has, or a frame that ends too early: any number of others was taken out there."""
    for later in (-50, -80):
        found = scan({50: 1}, stated=False, later=later)
        missing = missing_frames(found, found.gaps)
        assert (missing.times_at, missing.torn) == (None, True)
    found = scan({50: 1}, stated=False)
    assert missing_frames(replace(found, torn={found.gaps[0].begin}), found.gaps).torn


def test_where_nothing_is_known() -> None:
    """In front of all, and where the form of frames changes. What is missing at the end moves nothing."""
    found = scan({0: 1}, stated=False, later=-80)
    missing = missing_frames(found, found.gaps)
    assert (missing.times_at, missing.torn) == (None, False)
    assert missing_frames(replace(scan({5: 1}, stated=True), changes=1), []).times_at is None
    found = scan({}, stated=False)
    end = [Gap(found.end, found.end + 50, FRAME)]
    assert missing_frames(replace(found, gaps=end), end).times_at is not None
    few = replace(scan({1: 1}, stated=False), positions=np.array([0, 210]), end=300)
    assert missing_frames(few, few.gaps).most_seconds == pytest.approx(FRAME)
