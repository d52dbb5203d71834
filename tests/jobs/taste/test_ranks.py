"""jobs/taste/ranks.py: shares of a step, and what is said where the other ranks cannot be found."""

from __future__ import annotations

import pytest
import torch

from audio_tokenizers.errors import UsageError
from jobs.taste.ranks import Ranks, joined_ranks


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_shares_make_up_the_whole(world: int, count: int) -> None:
    """In order, each clip once, of sizes that differ by one at most; a rank may have none."""
    shares = [list(Ranks(rank, world).share(list(range(count)))) for rank in range(world)]
    assert [one for share in shares for one in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone() -> None:
    """Without the variables of a launcher a process is the only one; sums stay, and gradients that are missing are zero."""
    for environment in ({}, {"WORLD_SIZE": "1"}):
        with joined_ranks(environment, "cpu") as ranks:
            assert ranks == Ranks(0, 1)
            parameter = torch.nn.Parameter(torch.ones(2))
            ranks.add_up_gradients([parameter])
            assert parameter.grad is not None
            assert parameter.grad.tolist() == [0.0, 0.0]


def test_half_an_environment_is_refused() -> None:
    """A process that would wait for others for ever says what is missing."""
    with (
        pytest.raises(UsageError, match="WORLD_SIZE is 2: expected MASTER_ADDR, MASTER_PORT, RANK as well"),
        joined_ranks({"WORLD_SIZE": "2"}, "cpu"),
    ):
        pass
