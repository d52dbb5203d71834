"""The trained part of TASTE-simplified: a text token gathers the speech that belongs to it, and both become one vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Aggregator", "Fusion", "FusionName"]

FusionName = Literal["seed", "gated"]


class Aggregator(nn.Module):
    """Cross-attention with one head, from text tokens to speech frames, without an output projection.

    Keys are the states of Whisper's last layer, which know the words; values those of a middle layer, which know the voice
    (TASTE, https://arxiv.org/abs/2504.07053).
    """

    def __init__(self, text_width: int, speech_width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(text_width, text_width)
        self.k_proj = nn.Linear(speech_width, text_width)
        self.v_proj = nn.Linear(speech_width, text_width)

    def forward(self, text: Tensor, final: Tensor, mid: Tensor, frames: Tensor) -> Tensor:
        """[batch, tokens, text width] from text, states [batch, frames, speech width] and their true lengths [batch]."""
        heard = torch.arange(final.shape[1], device=final.device) < frames.unsqueeze(1)
        return functional.scaled_dot_product_attention(
            self.q_proj(text), self.k_proj(final), self.v_proj(mid), attn_mask=heard.unsqueeze(1)
        )


class Fusion(nn.Module):
    """Text and gathered speech, each normalised, as a sum. `gated` scales speech by sigmoid(gate), which begins at 1/2."""

    def __init__(self, width: int, name: FusionName) -> None:
        super().__init__()
        self.ln_text = nn.LayerNorm(width)
        self.ln_z = nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.zeros(())) if name == "gated" else None

    def forward(self, text: Tensor, speech: Tensor) -> Tensor:
        """[batch, tokens, width] of each -> the same."""
        normed: Tensor = self.ln_z(speech)
        if self.gate is not None:
            normed = torch.sigmoid(self.gate) * normed
        fused: Tensor = self.ln_text(text) + normed
        return fused
