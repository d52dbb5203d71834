"""jobs/decoded_blocks.py: blocks pass through whole while they are counted, and while a loss is noted between them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest

from jobs.channels import Block
from jobs.decoded_blocks import Counted, part_of, shifted_from
from jobs.losses import Losses


def blocks() -> Iterator[tuple[Block, int]]:
    """Three of a second each, at two rates."""
    for number, rate in enumerate((10, 20, 20)):
        yield np.full((rate, 1), number, np.float32), rate


def test_seconds_are_counted_at_each_rate() -> None:
    """As far as blocks have been taken."""
    heard = Counted()
    stream = heard.each(blocks())
    next(stream)
    assert heard.seconds == 1.0
    assert len(list(stream)) == 2
    assert heard.seconds == 3.0


@pytest.mark.parametrize(("at", "lengths"), [(0.0, [10, 20, 20]), (1.5, [10, 10, 10, 20]), (None, [10, 20, 20])])
def test_what_follows_a_loss_is_shifted(at: float | None, lengths: list[int]) -> None:
    """From that second on, also within a block; without a loss nothing is."""
    losses, found, before = Losses(), [], 0.0
    for block, rate in shifted_from(at, blocks(), losses):
        found.append(block)
        before += 0.0 if losses.shifted else len(block) / rate
    assert [len(block) for block in found] == lengths
    assert np.concatenate(found)[:, 0].tolist() == [0.0] * 10 + [1.0] * 20 + [2.0] * 20
    assert before == (3.0 if at is None else at)


def test_a_part_of_a_file_is_a_file() -> None:
    """From one byte to another."""
    assert part_of(io.BytesIO(b"0123456789"), 3, 7).read() == b"3456"
