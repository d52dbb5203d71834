"""jobs/clip_lines.py: which error a clip has before it is decoded. Whole lines: tests/jobs/test_tar_work.py."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import ClipError
from jobs.clip_group import Clip
from jobs.clip_lines import known_error

FAULT = ClipError("segment", "cannot be cut")


@pytest.mark.parametrize(
    ("index", "number", "crash_clips", "timed_out", "kind"),
    [
        (5, 0, (), (), None),
        (5, 0, (4, 6), (), None),
        (5, 0, (5,), (), "crash"),
        (5, 0, (5,), (5,), "timeout"),
        (5, 3, (3, 4), (), "crash"),  # two parts of its recording in a row, before it
        (5, 3, (2, 3), (), "crash"),
        (5, 1, (3, 4), (), None),  # the first of them is another recording's
        (5, 3, (2, 4), (), None),  # not in a row
        (5, 0, (3, 4), (), None),
    ],
)
def test_clips_that_killed_workers(
    index: int, number: int, crash_clips: tuple[int, ...], timed_out: tuple[int, ...], kind: str | None
) -> None:
    """They, and what follows two of them in one recording, are not decoded again: each try would cost a worker."""
    error = known_error(Clip(index, "a.wav", None, number=number), crash_clips, timed_out)
    assert (error.kind if error is not None else None) == kind


def test_a_clip_that_cannot_be_read_keeps_its_own_error() -> None:
    """Unless it killed workers, which says more."""
    assert known_error(Clip(5, "a.wav", None, FAULT), (), ()) is FAULT
    crashed = known_error(Clip(5, "a.wav", None, FAULT), (5,), ())
    assert crashed is not None
    assert crashed.kind == "crash"
