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
