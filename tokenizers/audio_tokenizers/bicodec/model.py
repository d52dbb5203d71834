"""BiCodec's encoders: wav2vec2's features to semantic tokens, a reference clip to global tokens.

Sources: sparktts/models and sparktts/modules of github.com/SparkAudio/Spark-TTS. The semantic encoder is Vocos' ConvNeXt
backbone (arXiv 2306.00814), its quantizer that of the Descript Audio Codec (arXiv 2306.06546). Modules have the names that
the published file gives their weights; decoder, prenet and postnet have no part in encoding.
"""

from __future__ import annotations

from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from audio_tokenizers.bicodec.files import MIXED_LAYERS, MelShape, SpeakerShape, VocosShape
from audio_tokenizers.bicodec.speaker import SpeakerEncoder

__all__ = ["BiCodecEncoder", "mel_transform", "mixed_features"]


class _ConvNext(nn.Module):
    def __init__(self, dim: int, intermediate_dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        added: Tensor = x + y.transpose(1, 2)
        return added


class _Vocos(nn.Module):
    def __init__(self, inputs: int, dim: int, intermediate_dim: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, dim, 7, padding=3)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.convnext = nn.ModuleList(_ConvNext(dim, intermediate_dim) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, frames] -> [batch, frames, dim]."""
        x = self.norm(self.embed(x).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        normed: Tensor = self.final_layer_norm(x.transpose(1, 2))
        return normed


class _Sampling(nn.Module):
    """What upstream's sampling block is at a ratio of 1: its three branches are all the identity, and are added."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, frames, dim] -> [batch, dim, frames]."""
        return 3 * x.transpose(1, 2)


class _SemanticEncoder(nn.Module):
    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        dim, intermediate_dim = shape.dim, shape.intermediate_dim
        self.encoder = _Vocos(shape.inputs, dim, intermediate_dim, shape.layers)
        blocks = [nn.Sequential(_Sampling(), _Vocos(dim, dim, intermediate_dim, 2)) for _ in range(shape.blocks)]
        self.downsample = nn.Sequential(*blocks)
        self.project = nn.Linear(dim, shape.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, inputs, frames] -> [batch, outputs, frames]."""
        projected: Tensor = self.project(self.downsample(self.encoder(features)))
        return projected.transpose(1, 2)


class _FactorizedQuantizer(nn.Module):
    """The nearest of the codes by angle, in a space of few dimensions."""

    def __init__(self, inputs: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_project = nn.Conv1d(inputs, codebook_dim, 1)
        self.codebook = nn.Embedding(codebook_size, codebook_dim)

    def forward(self, z: Tensor) -> Tensor:
        """[batch, inputs, frames] -> int64 [batch, frames]."""
        latents = self.in_project(z).transpose(1, 2)
        encodings = functional.normalize(latents.flatten(0, 1))
        codebook = functional.normalize(self.codebook.weight)
        # In upstream's form, operation by operation: what the terms round to decides between two near codes.
        distances = (
            encodings.pow(2).sum(1, keepdim=True) - 2 * encodings @ codebook.t() + codebook.pow(2).sum(1, keepdim=True).t()
        )
        tokens: Tensor = (-distances).max(1).indices.reshape(latents.shape[:2])
        return tokens


class BiCodecEncoder(nn.Module):
    """What BiCodec/model.safetensors holds for encoding."""

    def __init__(self, encoder: VocosShape, codebook_size: int, codebook_dim: int, speaker: SpeakerShape) -> None:
        super().__init__()
        self.encoder = _SemanticEncoder(encoder)
        self.quantizer = _FactorizedQuantizer(encoder.outputs, codebook_size, codebook_dim)
        self.speaker_encoder = SpeakerEncoder(speaker)

    def semantic_tokens(self, features: Tensor) -> Tensor:
        """float32 [batch, frames, width], from `mixed_features` -> int64 [batch, frames]."""
        tokens: Tensor = self.quantizer(self.encoder(features.transpose(1, 2)))
        return tokens

    def global_tokens(self, mel: Tensor) -> Tensor:
        """float32 [batch, bands, frames], from `mel_transform` -> int64 [batch, tokens]."""
        tokens: Tensor = self.speaker_encoder(mel)
        return tokens


def mel_transform(shape: MelShape) -> Any:  # noqa: ANN401 - torchaudio has no types
    """float32 [batch, samples] -> float32 [batch, bands, frames]: magnitudes, in Slaney's scale and norm, without a log."""
    return torchaudio.transforms.MelSpectrogram(
        sample_rate=shape.sample_rate,
        n_fft=shape.n_fft,
        win_length=shape.win_length,
        hop_length=shape.hop_length,
        f_min=shape.fmin,
        f_max=shape.fmax,
        n_mels=shape.bands,
        power=1,
        norm="slaney",
        mel_scale="slaney",
    )


def mixed_features(wav2vec2: Any, waves: Tensor) -> Tensor:  # noqa: ANN401 - its modules have no types
    """float32 [batch, samples], standardised -> float32 [batch, frames, width]: the mean of three hidden states.

    transformers' Wav2Vec2Model of MIXED_LAYERS[-1] layers, driven by hand: its own forward would keep all hidden states,
    and put a norm on the last, which upstream takes from the midst of 24 layers.
    """
    hidden = wav2vec2.feature_projection(wav2vec2.feature_extractor(waves).transpose(1, 2))[0]
    hidden = hidden + wav2vec2.encoder.pos_conv_embed(hidden)
    mixed: Tensor | None = None
    for number, layer in enumerate(wav2vec2.encoder.layers, 1):
        output = layer(hidden)
        # Versions differ in whether a layer returns a tuple.
        hidden = output[0] if isinstance(output, tuple) else output
        if number in MIXED_LAYERS:
            mixed = hidden if mixed is None else mixed + hidden
    if mixed is None:
        raise ValueError(f"a wav2vec2 of {len(wav2vec2.encoder.layers)} layers")
    return mixed / len(MIXED_LAYERS)
