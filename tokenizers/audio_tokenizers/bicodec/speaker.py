"""BiCodec's speaker encoder, the half that makes global tokens: ECAPA-TDNN, a perceiver, and finite scalar quantisation.

Sources: sparktts/modules/speaker and sparktts/modules/fsq of github.com/SparkAudio/Spark-TTS; ECAPA-TDNN is arXiv 2005.07143
in the form of github.com/lawlict/ECAPA-TDNN, the perceiver that of lucidrains' naturalspeech2-pytorch, FSQ arXiv 2309.15505.
Modules have the names that the published file gives their weights. ECAPA's pooling and what follows it make no tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audio_tokenizers.bicodec.files import SpeakerShape

__all__ = ["SpeakerEncoder"]

CHANNELS, LATENT_CHANNELS, SQUEEZED, SCALE = 512, 1536, 128, 8
"""ECAPA's widths; upstream's code fixes them."""
DEPTH, HEADS, HEAD_SIZE, WIDENING = 2, 8, 64, 4
"""The perceiver's; likewise."""


class _ConvReluNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(functional.relu(self.conv(x)))
        return normed


class _Res2(nn.Module):
    """A dilated convolution per slice of the channels but the last, each slice added to what came of the one before."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.width = CHANNELS // SCALE
        convolutions = [nn.Conv1d(self.width, self.width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1)]
        self.convs = nn.ModuleList(convolutions)
        self.bns = nn.ModuleList([nn.BatchNorm1d(self.width) for _ in range(SCALE - 1)])

    def forward(self, x: Tensor) -> Tensor:
        slices = torch.split(x, self.width, dim=1)
        outputs: list[Tensor] = []
        for part, conv, bn in zip(slices, self.convs, self.bns, strict=False):
            outputs.append(bn(functional.relu(conv(outputs[-1] + part if outputs else part))))
        return torch.cat([*outputs, slices[-1]], dim=1)


class _SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(CHANNELS, SQUEEZED)
        self.linear2 = nn.Linear(SQUEEZED, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.linear2(functional.relu(self.linear1(x.mean(dim=2)))).sigmoid()
        return x * gate.unsqueeze(2)


class _SeRes2Block(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            _ConvReluNorm(CHANNELS, CHANNELS), _Res2(dilation), _ConvReluNorm(CHANNELS, CHANNELS), _SqueezeExcite()
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.se_res2block(x)
        return x + changed


class _Ecapa(nn.Module):
    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layer1 = _ConvReluNorm(bands, CHANNELS, kernel=5)
        self.layer2 = _SeRes2Block(dilation=2)
        self.layer3 = _SeRes2Block(dilation=3)
        self.layer4 = _SeRes2Block(dilation=4)
        self.conv = nn.Conv1d(3 * CHANNELS, LATENT_CHANNELS, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """[batch, bands, frames] -> [batch, 1536, frames]."""
        second = self.layer2(self.layer1(mel))
        third = self.layer3(second)
        return functional.relu(self.conv(torch.cat([second, third, self.layer4(third)], dim=1)))


class _Attention(nn.Module):
    """Latents look at themselves and at the context."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_SIZE
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.reshape(*x.shape[:2], HEADS, HEAD_SIZE).transpose(1, 2)

        keys, values = self.to_kv(torch.cat([latents, context], dim=1)).chunk(2, dim=2)
        # Written out, as upstream has it: scaled_dot_product_attention rounds otherwise.
        similarity = torch.matmul(heads(self.to_q(latents)), heads(keys).transpose(2, 3)) * HEAD_SIZE**-0.5
        seen = torch.matmul(similarity.softmax(dim=3), heads(values))
        out: Tensor = self.to_out(seen.transpose(1, 2).flatten(2))
        return out


class _Geglu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=2)
        return functional.gelu(gate) * value


class _RmsNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=2) * math.sqrt(x.shape[2]) * self.gamma


class _Perceiver(nn.Module):
    def __init__(self, dim: int, latents: int) -> None:
        super().__init__()
        inner = int(dim * WIDENING * 2 / 3)
        self.proj_context = nn.Linear(LATENT_CHANNELS, dim)
        self.latents = nn.Parameter(torch.zeros(latents, dim))
        self.layers = nn.ModuleList(
            nn.ModuleList([_Attention(dim), nn.Sequential(nn.Linear(dim, 2 * inner), _Geglu(), nn.Linear(inner, dim))])
            for _ in range(DEPTH)
        )
        self.norm = _RmsNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, 1536] -> [batch, latents, dim]."""
        context = self.proj_context(features)
        latents = self.latents.expand(features.shape[0], -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = attention(latents, context) + latents
            latents = feed_forward(latents) + latents
        normed: Tensor = self.norm(latents)
        return normed


class _Fsq(nn.Module):
    """Each of the projected dimensions rounded to one of its levels, which are the digits of the token, the lowest first."""

    def __init__(self, dim: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = levels
        self.project_in = nn.Linear(dim, len(levels))

    def forward(self, latents: Tensor) -> Tensor:
        """[batch, tokens, dim] -> int64 [batch, tokens]."""
        z = self.project_in(latents)
        levels = _on_device(self.levels, torch.int32, z.device)
        reach = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = (z + (offset / reach).atanh()).tanh() * reach - offset
        digits = bounded.round().to(torch.int64) + levels // 2
        weights = _on_device([math.prod(self.levels[:i]) for i in range(len(self.levels))], torch.int64, z.device)
        tokens: Tensor = (digits * weights).sum(2)
        return tokens


def _on_device(values: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """[values], written by the device itself: of `torch.tensor` the host would wait for a copy."""
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])


class SpeakerEncoder(nn.Module):
    """Mel spectrogram -> global tokens."""

    def __init__(self, shape: SpeakerShape) -> None:
        super().__init__()
        self.speaker_encoder = _Ecapa(shape.bands)
        self.perceiver_sampler = _Perceiver(shape.latent_dim, shape.tokens)
        self.quantizer = _Fsq(shape.latent_dim, shape.levels)

    def forward(self, mel: Tensor) -> Tensor:
        """float32 [batch, bands, frames] -> int64 [batch, tokens]."""
        features = self.speaker_encoder(mel)
        tokens: Tensor = self.quantizer(self.perceiver_sampler(features.transpose(1, 2)))
        return tokens
