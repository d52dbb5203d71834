"""A tiny random Whisper in transformers' layout, decoder included, as the published checkpoints have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LAYERS, WIDTH, MEL_BINS = 3, 24, 80


def build_whisper(directory: Path, seed: int = 0, *, shard_size: str = "1GB", dtype: str = "float32", **sizes: int) -> Path:
    """Write config.json and model.safetensors (300 KB) with save_pretrained; `sizes` replace those of the config."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    shape: dict[str, Any] = {
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 40,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 8,
        "vocab_size": 100,
        "max_target_positions": 8,
    }
    config = WhisperConfig(**{**shape, **sizes}, pad_token_id=0)  # the default is beyond so small a vocabulary
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        # transformers' own start, a deviation of 0.02, would leave the layers next to nothing to do.
        for weight in model.parameters():
            fan_in = max(1, weight[0].numel())
            weight.copy_(torch.randn(weight.shape, generator=generator) * fan_in**-0.5)
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=shard_size)
    return directory
