"""jobs/tar_task.py: whether a tar is still the one that it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_run import small_tar

from jobs.tar_task import InputIdentity


@pytest.mark.parametrize(
    ("size", "mtime_ns", "ctime_ns", "written_to"),
    [
        (100, 5, 7, False),
        (101, 5, 7, True),
        (99, 6, 8, True),
        (100, 6, 8, True),
        (100, 4, 8, True),  # and dated back
        (100, 5, 8, False),  # linked, staged or given another mode
        (100, 6, 7, False),  # a time that settled late, or lost its fraction
    ],
)
def test_a_tar_was_written_to_if_its_size_or_both_its_times_are_others(
    size: int, mtime_ns: int, ctime_ns: int, *, written_to: bool
) -> None:
    """One time alone changes on healthy tars, too: such a tar would never be committed on some file systems."""
    assert InputIdentity("a.tar", 100, 5, 7).written_to(InputIdentity("a.tar", size, mtime_ns, ctime_ns)) is written_to


def test_the_identity_of_an_opened_tar_is_that_of_its_name(tmp_path: Path) -> None:
    """Both looks see one size and one time."""
    tar = small_tar(tmp_path / "a.tar")
    assert InputIdentity.opened(tar) == InputIdentity.of(tar)
