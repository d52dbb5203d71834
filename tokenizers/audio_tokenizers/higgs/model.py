"""The forward pass of a Higgs audio v2 tokenizer's encoder in parts, as a single clip and lanes share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audio_tokenizers.higgs.files import HUBERT_PAD, Checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["compute_in_bfloat16", "hear", "hubert_features", "quantize"]


def compute_in_bfloat16(model: Any) -> None:  # noqa: ANN401 - its modules have no types
    """Both branches, but not what they end with, nor what makes codes of it."""
    from audio_tokenizers.shared.bfloat16 import use_bfloat16

    acoustic, semantic = model.acoustic_encoder, model.encoder_semantic
    use_bfloat16([acoustic, semantic, model.semantic_model], [acoustic.conv2, semantic.conv_blocks[-1].conv])


def hear(checkpoint: Checkpoint, batch: torch.Tensor) -> torch.Tensor:
    """float32 [batch, samples] at the codec's rate -> float32 [batch, samples] at HuBERT's."""
    import torchaudio

    # torchaudio's default filter, on the model's device, is part of the codec: the weights were trained behind it.
    heard: torch.Tensor = torchaudio.functional.resample(batch, checkpoint.sample_rate, checkpoint.semantic_sample_rate)
    return heard


def hubert_features(model: Any, heard: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - its modules have no types
    """float32 [batch, samples] -> floats [batch, frames, width]: the mean of all HuBERT layers."""
    import torch

    layers = model.semantic_model(
        torch.nn.functional.pad(heard, (HUBERT_PAD, HUBERT_PAD)), output_hidden_states=True
    ).hidden_states
    return torch.stack(layers, dim=1).mean(dim=1)


def quantize(model: Any, acoustic: torch.Tensor, semantic: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Two float32 [batch, width, frames], a rest of disagreement in frames cut -> int64 [batch, codebooks, frames]."""
    import torch

    frames = min(acoustic.shape[2], semantic.shape[2])
    embedding = torch.cat([acoustic[:, :, :frames], semantic[:, :, :frames]], dim=1)
    del acoustic, semantic
    embedding = model.fc(embedding.transpose(1, 2)).transpose(1, 2)
    codes: torch.Tensor = model.quantizer.encode(embedding)
    return codes.transpose(0, 1)
