"""Small random checkpoints of the codecs that transformers has, written by its own save_pretrained.

Strides, rates and numbers of codebooks are the published ones, so that each rule about lengths is the published one too.
Beside those only widths are set: all else is the default of the config's class, as in files that people have trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["CODECS", "build", "random_model", "write_extractor"]

HUBERT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
CODECS = ("mimi", "dac", "encodec", "xcodec")


def _mimi(**changes: Any) -> Any:
    from transformers import MimiConfig, MimiModel

    small = {
        "hidden_size": 32,
        "num_filters": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16,
        "upsample_groups": 32,
        "codebook_size": 256,
    }
    return MimiModel(MimiConfig(**small | changes))


def _dac(**changes: Any) -> Any:
    from transformers import DacConfig, DacModel

    small = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "sampling_rate": 44100}
    return DacModel(DacConfig(**small | changes))


def _encodec(**changes: Any) -> Any:
    from transformers import EncodecConfig, EncodecModel

    small = {"num_filters": 4, "hidden_size": 16}
    return EncodecModel(EncodecConfig(**small | changes))


def _xcodec(**changes: Any) -> Any:
    from transformers import DacConfig, HubertConfig, XcodecConfig, XcodecModel

    acoustic: dict[str, Any] = {
        "encoder_hidden_size": 4,
        "downsampling_ratios": [8, 5, 4, 2],
        "decoder_hidden_size": 64,
        "hidden_size": 32,
    }
    parts = {
        "acoustic_model_config": DacConfig(**acoustic).to_dict(),
        "semantic_model_config": HubertConfig(**HUBERT).to_dict(),
    }
    return XcodecModel(XcodecConfig(**parts | changes))


def random_model(codec: str, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers, ready for inference, whose codes vary; `changes` are config keys.

    Codebooks start as zeros, or far from what a random encoder gives, so that each code would be the same.
    """
    import torch

    makers = {"mimi": _mimi, "dac": _dac, "encodec": _encodec, "xcodec": _xcodec}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = makers[codec](**changes).eval()
        for name, tensor in model.named_parameters():
            if codec in ("dac", "xcodec") and name.startswith(("encoder.", "acoustic_encoder.")) and tensor.ndim == 3:
                fan_in = tensor.shape[1] * tensor.shape[2]
                if fan_in > 1:  # else one of the slopes of Snake
                    tensor.normal_(0, fan_in**-0.5)
        mean, deviation = _first_codebook(codec, model)
        number = 0
        for name, tensor in model.named_buffers():
            if name.endswith(("codebook.embed", "codebook.embed_sum")):
                tensor.copy_(0.8 ** (number % 8) * deviation * torch.randn(tensor.shape) + (mean if number == 0 else 0))
                number += 1
            elif name.endswith(("cluster_usage", "cluster_size")):
                tensor.fill_(1.0)
    return model


def _first_codebook(codec: str, model: Any) -> tuple[Any, Any]:
    """(mean, deviation) of what the first codebook should look like."""
    import torch

    if codec != "encodec":
        return 0.0, {"mimi": 0.5, "dac": 1.0, "xcodec": 0.3}[codec]
    heard = model.encoder(0.3 * torch.randn(1, 1, 24000))[0]
    return heard.mean(dim=1), heard.std(dim=1)


def build(directory: Path, codec: str, seed: int = 0, **changes: Any) -> Path:
    """Write config.json and model.safetensors."""
    random_model(codec, seed, **changes).save_pretrained(directory)
    return directory


def write_extractor(directory: Path, codec: str, sample_rate: int, hop_length: int) -> Path:
    """Write the preprocessor_config.json that is published beside the codec: DAC's and X-codec's extractor pads."""
    from transformers import DacFeatureExtractor, EncodecFeatureExtractor

    if codec in ("dac", "xcodec"):
        extractor: Any = DacFeatureExtractor(sampling_rate=sample_rate, hop_length=hop_length)
    else:
        extractor = EncodecFeatureExtractor(sampling_rate=sample_rate)
    extractor.save_pretrained(directory)
    return directory
