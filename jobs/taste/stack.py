"""The encoder stack of CosyVoice 1's speech language model: pre-norm Transformer blocks with relative positions, causal.

Equal to `cosyvoice.transformer.encoder.TransformerEncoder` of github.com/FunAudioLLM/CosyVoice with the options that
jobs/taste/lm_files.py requires; modules have the names of its state dict. Attention is that of Transformer-XL (Dai et al.
2019, https://arxiv.org/abs/1901.02860, section 3.3) in ESPnet's form. A causal stack needs only the positions of keys to
the left, so the table has T rows instead of upstream's 2T - 1, and masks of padding at the end are not needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.taste.lm_files import StackShape

__all__ = ["Cache", "Stack"]

BASE = 10000.0
BLOCK_EPS, OUTER_EPS = 1e-12, 1e-5


@dataclass(slots=True)
class Cache:
    """What decoding keeps of the positions so far, so that each new one costs one position's work."""

    keys: list[Tensor]
    """Per block [batch, heads, positions, width / heads]."""
    values: list[Tensor]
    distances: list[Tensor]
    """Per block [heads, most, width / heads]: projected distances, the farthest first."""
    length: int = 0


class Stack(nn.Module):
    """[batch, positions, inputs] -> [batch, positions, width]. What stands after a position never changes its output."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = _Embed(shape)
        self.encoders = nn.ModuleList(_Block(shape) for _ in range(shape.blocks))
        self.after_norm = nn.LayerNorm(shape.width, eps=OUTER_EPS)
        self.positional = nn.Dropout(shape.positional_dropout)

    def _blocks(self) -> list[_Block]:
        return [block for block in self.encoders if isinstance(block, _Block)]

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence. Padding may stand at its end only."""
        table = self.positional(distance_table(x.shape[1], self.shape.width, x.device))
        x = self.positional(self.embed(x) * math.sqrt(self.shape.width))
        for block in self._blocks():
            x, _, _ = block(x, block.self_attn.project_distances(table), None)
        normed: Tensor = self.after_norm(x)
        return normed

    def start(self, most: int, device: torch.device | str) -> Cache:
        """An empty cache for up to `most` positions."""
        table = distance_table(most, self.shape.width, device)
        distances = [block.self_attn.project_distances(table) for block in self._blocks()]
        return Cache([], [], distances)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """The next positions, [batch, new, inputs], which join the cache; equal to `forward` over all of them."""
        total = cache.length + x.shape[1]
        x = self.embed(x) * math.sqrt(self.shape.width)
        for number, block in enumerate(self._blocks()):
            past = (cache.keys[number], cache.values[number]) if cache.length else None
            x, keys, values = block(x, cache.distances[number][:, -total:], past)
            if past is None:
                cache.keys.append(keys)
                cache.values.append(values)
            else:
                cache.keys[number], cache.values[number] = keys, values
        cache.length = total
        normed: Tensor = self.after_norm(x)
        return normed


def distance_table(positions: int, width: int, device: torch.device | str) -> Tensor:
    """float32 [positions, width]: row k is the distance m = positions - 1 - k, of which sines and cosines take turns."""
    distance = torch.arange(positions - 1, -1, -1, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(BASE) / width))
    angles = distance * frequency
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(device)


class _Embed(nn.Module):
    """Upstream's input layer `linear_legacy`."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.out = nn.Sequential(
            nn.Linear(shape.inputs, shape.width),
            nn.LayerNorm(shape.width, eps=OUTER_EPS),
            nn.Dropout(shape.dropout),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.out(x)
        return embedded


class _Block(nn.Module):
    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape)
        self.feed_forward = _FeedForward(shape)
        self.norm1 = nn.LayerNorm(shape.width, eps=BLOCK_EPS)
        self.norm2 = nn.LayerNorm(shape.width, eps=BLOCK_EPS)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, distances: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        attended, keys, values = self.self_attn(self.norm1(x), distances, past)
        x = x + self.dropout(attended)
        x = x + self.dropout(self.feed_forward(self.norm2(x)))
        return x, keys, values


class _FeedForward(nn.Module):
    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.w_1 = nn.Linear(shape.width, shape.inner)
        self.w_2 = nn.Linear(shape.inner, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.w_2(self.dropout(functional.relu(self.w_1(x))))
        return result


class _Attention(nn.Module):
    """score(i, j) = ((q_i + u) . k_j + (q_i + v) . W r_(i-j)) / sqrt(width / heads), for j up to i."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.rate = shape.attention_dropout
        self.linear_q = nn.Linear(shape.width, shape.width)
        self.linear_k = nn.Linear(shape.width, shape.width)
        self.linear_v = nn.Linear(shape.width, shape.width)
        self.linear_out = nn.Linear(shape.width, shape.width)
        self.linear_pos = nn.Linear(shape.width, shape.width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(shape.heads, shape.width // shape.heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(shape.heads, shape.width // shape.heads))

    def project_distances(self, table: Tensor) -> Tensor:
        """[positions, width] -> [heads, positions, width / heads]."""
        projected: Tensor = self.linear_pos(table)
        return projected.view(len(table), self.heads, -1).transpose(0, 1)

    def forward(self, x: Tensor, distances: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """`distances` has a row for each position so far, those of `past` included. Returns keys and values of all."""
        query, keys, values = (
            linear(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        if past is not None:
            keys, values = torch.cat((past[0], keys), 2), torch.cat((past[1], values), 2)
        new, total = query.shape[2], keys.shape[2]
        by_distance = (query + self.pos_bias_v.unsqueeze(1)) @ distances.transpose(1, 2)
        bias = _aligned(by_distance) / math.sqrt(query.shape[-1])
        later = torch.ones(new, total, dtype=torch.bool, device=x.device).triu(total - new + 1)
        attended = functional.scaled_dot_product_attention(
            query + self.pos_bias_u.unsqueeze(1),
            keys,
            values,
            attn_mask=bias.masked_fill(later, -math.inf),
            dropout_p=self.rate if self.training else 0.0,
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2)), keys, values


def _aligned(scores: Tensor) -> Tensor:
    """[..., new, total] by distance, the farthest first -> by key: row i moves new - 1 - i places to the left.

    Values at later keys are meaningless; they are masked. Rows are moved by reading them, padded, as rows that are one
    shorter, which costs no index and has a gradient that is summed in a fixed order.
    """
    new, total = scores.shape[-2:]
    flat = functional.pad(scores, (0, new)).flatten(-2)
    stride = total + new - 1
    rows = flat[..., new - 1 : new - 1 + new * stride].reshape(*scores.shape[:-2], new, stride)
    return rows[..., :total]
