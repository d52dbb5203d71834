"""What decoders could not give."""

from __future__ import annotations

import pytest

from jobs.losses import Losses


def test_seconds_add_up_and_each_kind_is_named_once() -> None:
    """A clip with a thousand broken frames has one line of words, and the sum of what is missing."""
    losses = Losses()
    for _ in range(1000):
        losses.add(0.026, "frames that cannot be decoded")
    losses.add(0.5, "its end")
    assert losses.seconds == pytest.approx(26.5)
    assert losses.what == ["frames that cannot be decoded", "its end"]


def test_what_follows_is_off_by_what_is_missing_or_by_what_times_pass_over() -> None:
    """Where packets are lost the file's times jump, too: that is one and the same gap."""
    losses, more = Losses(), Losses(doubt=3.0, shifted=True)
    assert (losses.shifted, losses.shift) == (False, 0.0)
    losses.take(more)
    assert (losses.shifted, losses.shift, losses.what) == (True, 3.0, [])
    losses.add(4.0, "its end")
    assert losses.shift == 4.0


def test_gaps_that_do_not_account_for_the_doubt_are_no_places() -> None:
    """To 50 ms; nor are there any without gaps."""
    assert Losses(doubt=3.0, gaps=[(1.0, 2.0), (4.0, 0.96)]).are_placed
    assert not Losses(doubt=3.0, gaps=[(1.0, 2.0), (4.0, 0.9)]).are_placed
    assert not Losses().are_placed


def test_bytes_that_were_taken_out_have_no_place() -> None:
    """Whatever else is known; and whoever told of them."""
    losses = Losses(gaps=[(1.0, 2.0)])
    assert losses.are_placed
    losses.take(Losses(torn=True))
    losses.take(Losses())
    assert losses.torn
    assert not losses.are_placed
