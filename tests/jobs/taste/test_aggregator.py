"""jobs/taste/aggregator.py: attention over the frames that there are, and the two ways of fusing."""

from __future__ import annotations

import torch

from jobs.taste.aggregator import Aggregator, Fusion


def test_keys_are_the_last_layer_and_values_the_middle_one() -> None:
    """With equal keys each token gets the mean of the projected values, of true frames only."""
    torch.manual_seed(0)
    model = Aggregator(4, 6)
    final = torch.ones(2, 5, 6)
    mid = torch.randn(2, 5, 6)
    mid[1, 3:] = 1e6
    z = model(torch.randn(2, 3, 4), final, mid, torch.tensor([5, 3]))
    for row, frames in enumerate((5, 3)):
        expected = model.v_proj(mid[row, :frames]).mean(0)
        assert torch.allclose(z[row], expected.expand(3, 4), atol=1e-5)


def test_fusion() -> None:
    """`seed` adds both; `gated` begins with half of the speech, and learns how much."""
    text, speech = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    norm = torch.nn.functional.layer_norm
    assert torch.allclose(Fusion(8, "seed")(text, speech), norm(text, [8]) + norm(speech, [8]), atol=1e-6)
    gated = Fusion(8, "gated")
    assert torch.allclose(gated(text, speech), norm(text, [8]) + norm(speech, [8]) / 2, atol=1e-6)
    gated(text, speech).sum().backward()
    assert gated.gate is not None
    assert gated.gate.grad is not None
