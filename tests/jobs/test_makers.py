"""jobs/makers.py: whose work the lines of a tar are."""

from __future__ import annotations

from jobs.makers import join_makers, makers_of
from jobs.manifest import Maker


def maker(node: str, clips: int, gpu: str = "") -> Maker:
    return Maker(node=node, gpu=gpu, clips=clips)


def test_a_killed_attempt_made_what_no_other_did() -> None:
    """Its count in the manifest is from its beginning; the lines that are there say what it did."""
    assert makers_of([maker("a", 10), maker("b", 0)], 25) == (maker("a", 10), maker("b", 15))
    assert makers_of([maker("a", 10), maker("b", 15)], 25) == (maker("a", 10), maker("b", 15))


def test_lines_that_are_gone_are_nobodys() -> None:
    """A power loss takes lines from the end of a partial."""
    assert makers_of([maker("a", 10), maker("b", 15)], 12) == (maker("a", 10), maker("b", 2))
    assert makers_of([maker("a", 10), maker("b", 15)], 7) == (maker("a", 7),)
    assert makers_of([maker("a", 10)], 0) == ()
    assert makers_of([], 7) == ()


def test_attempts_of_one_device_in_a_row_are_one_maker() -> None:
    """A tar that one GPU was interrupted at fifty times has a manifest of the usual size."""
    assert join_makers([maker("a", 10)], maker("a", 5)) == (maker("a", 15),)
    assert join_makers([maker("a", 10)], maker("a", 5, gpu="1")) == (maker("a", 10), maker("a", 5, gpu="1"))
    assert join_makers([], maker("a", 0)) == (maker("a", 0),)
