"""jobs/mp3_places.py: when the frames of a damaged MP3 are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.frame_scan import Gap
from jobs.gap_finder import TimesAt
from jobs.mp3_frames import Mp3Scan
from jobs.mp3_places import frame_times, is_torn


def scan(sizes: list[int], missing: dict[int, int], stated: int | None = None) -> Mp3Scan:
    """Frames of these sizes, some of which are gaps: the first that is missing -> how many; a second each."""
    begins = np.concatenate([[0], np.cumsum(sizes)])
    gone = {number for first, count in missing.items() for number in range(first, first + count)}
    gaps = [Gap(int(begins[first]), int(begins[first + count]), 0.0) for first, count in missing.items()]
    positions = np.array([begins[number] for number in range(len(sizes)) if number not in gone], np.int64)
    there = len(positions) - (stated is not None)
    return Mp3Scan(
        int(positions[0]), int(begins[-1]), there, float(there), 0, 100, 100, gaps, stated_frames=stated, positions=positions
    )


def found(scanned: Mp3Scan) -> TimesAt | None:
    return frame_times(scanned, scanned.gaps)


SAME = [100, 101] * 20
OTHER = [50, 100, 200, 70] * 10


def test_frames_of_one_bit_rate_are_counted_by_the_bytes_between_them() -> None:
    """In each of several gaps; what begins between frames has no time."""
    times = found(scan(SAME, {5: 3, 20: 7}))
    assert times is not None
    begins = np.concatenate([[0], np.cumsum(SAME)])
    for number in (0, 4, 8, 19, 27, 39):
        assert times(int(begins[number])) == (number, number + 1)
    assert times(int(begins[6])) is times(int(begins[8]) + 1) is times(10**6) is None


def test_one_gap_between_frames_of_many_lengths_is_as_long_as_the_stated_count_says() -> None:
    """Of several nobody knows which is how long."""
    times = found(scan(OTHER, {5: 3}, stated=39))
    assert times is not None
    assert times(int(np.sum(OTHER[:8]))) == (8, 9)
    assert found(scan(OTHER, {5: 3})) is None
    assert found(scan(OTHER, {5: 3, 20: 3}, stated=39)) is None


@pytest.mark.parametrize("stated", [30, 38, 40, 60])
def test_a_count_that_disagrees(stated: int) -> None:
    """Nothing is sure."""
    assert found(scan(SAME, {5: 3}, stated=39)) is not None
    assert found(scan(SAME, {5: 3}, stated=stated)) is None


def test_counts_that_the_bytes_have_no_room_for() -> None:
    """Or far too much."""
    for stated in (20, 36, 60):
        assert found(scan(OTHER, {5: 3}, stated=stated)) is None


def test_where_nobody_knows() -> None:
    """Bytes that are not those of whole frames, rates that change, damage in front, no gap at all."""
    right = scan(SAME, {5: 3})
    gap = right.gaps[0]
    assert found(replace(right, gaps=[replace(gap, end=gap.end - 40)])) is None
    assert found(replace(right, changes=1)) is None
    assert found(scan(SAME, {0: 3})) is None
    assert frame_times(right, []) is None


def torn(sizes: list[int], size: int, stated: int | None = None) -> bool:
    """Of a file in which the sixth frame is replaced by so many bytes."""
    scanned = scan([*sizes[:5], size, *sizes[6:]], {5: 1}, stated)
    return is_torn(scanned, scanned.gaps)


@pytest.mark.parametrize("sizes", [SAME, OTHER])
def test_bytes_that_are_no_frame(sizes: list[int]) -> None:
    """Of fewer than two frames nobody knows how many they were, unless a count says it."""
    room = 2 * min(sizes) - 1
    for size in range(1, 400):
        found = torn(sizes, size)
        assert found == (2 < size < room and all(abs(size - one) > 1 for one in sizes))
        assert not torn(sizes, size, stated=39)
    assert torn(sizes, 40)
    assert not torn(sizes, min(sizes))


def test_what_stands_around_all_frames_is_no_cut() -> None:
    """Nor is anything where the rate changes."""
    scanned = scan([40, *SAME], {0: 1})
    assert not is_torn(scanned, scanned.gaps)
    scanned = scan([*SAME[:5], 40, *SAME], {5: 1})
    assert is_torn(scanned, scanned.gaps)
    assert not is_torn(replace(scanned, changes=1), scanned.gaps)
    assert not is_torn(scanned, [Gap(scanned.end, scanned.end + 40, 0.0)])
