"""shared/snake.py: the same bits, with fewer copies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.dac.modeling_dac import Snake1d

from audio_tokenizers.shared.snake import save_copies


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bits_are_those_of_transformers(dtype: torch.dtype) -> None:
    """Single clips have the tokens of upstream's code, and what comes in is not written over: it is added again later."""
    generator = torch.Generator().manual_seed(0)
    plain: Any
    saving: Any
    plain, saving = Snake1d(8).to(dtype), torch.nn.Sequential(Snake1d(8)).to(dtype)
    slopes = torch.randn(1, 8, 1, generator=generator, dtype=dtype)
    hidden = 3 * torch.randn(2, 8, 501, generator=generator, dtype=dtype)
    before = hidden.clone()
    with torch.inference_mode():
        plain.alpha.copy_(slopes)
        saving[0].alpha.copy_(slopes)
        save_copies(saving)
        assert torch.equal(saving(hidden), plain(hidden))
    assert torch.equal(hidden, before)
