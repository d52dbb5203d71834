"""tools/common/tar_finding.py: the tars of a folder, in an order that people expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.looked_at import folder_of_tars

from tools.common.tar_finding import find_tars


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tars with and without numbers, and what else lies beside them."""
    return folder_of_tars(tmp_path)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_default_takes_every_kind_of_tar_in_order_of_value(folder: Path) -> None:
    """All suffixes in any case, numbers by value, no folders, no AppleDouble files, no other files."""
    assert names(find_tars(folder, None)) == ["09.tar", "9.tar", "10.tar", "train-2.tar.gz", "train-11.TAR", "x².tar"]


def test_pattern_goes_below_the_folder(folder: Path) -> None:
    """A glob may descend, and gives each file once."""
    assert names(find_tars(folder, "**/*.tar")) == ["09.tar", "9.tar", "10.tar", "5.tar", "x².tar"]
    assert names(find_tars(folder, "*.txt")) == ["notes.txt"]


def test_prefix_and_range(folder: Path) -> None:
    """--prefix is the start of the name; --start and --end are included, and leave out tars without a number."""
    assert names(find_tars(folder, None, prefix="train-")) == ["train-2.tar.gz", "train-11.TAR"]
    assert names(find_tars(folder, None, start=9, end=10)) == ["09.tar", "9.tar", "10.tar"]
    assert names(find_tars(folder, None, start=10)) == ["10.tar", "train-11.TAR"]
    assert names(find_tars(folder, None, end=2)) == ["train-2.tar.gz"]
    assert find_tars(folder, None, start=0, end=0) == []
