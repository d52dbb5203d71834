"""Weights of Spark-TTS into the encoders of BiCodec and wav2vec2, strictly.

Upstream prints the names of missing and surplus tensors and goes on with random ones. Here each tensor that encoding needs
must be there, with its shape, and each name must be a known one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from audio_tokenizers.bicodec_files import ATTENTION, MIXED_LAYERS, BiCodecCheckpoint
from audio_tokenizers.bicodec_model import BiCodecEncoder, mel_transform
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.weights import load_strictly, read_tensors

__all__ = ["load_bicodec", "load_wav2vec2"]

UNUSED = (
    # All that lies behind the quantizers, and the way back from them.
    *("decoder.", "prenet.", "postnet.", "quantizer.out_project.", "quantizer.cluster_size"),
    *("speaker_encoder.project.", "speaker_encoder.quantizer.project_out."),
    # ECAPA's way on to a speaker embedding.
    *(f"speaker_encoder.speaker_encoder.{part}." for part in ("pool", "bn", "linear")),
)
MEL = "mel_transformer."
"""The window and the mel filters, which the published file lacks; upstream takes them from a file that has them."""
PREFIX = "wav2vec2."
"""Of all names in a file that was saved with its pretraining head, as the published one was."""
PRETRAINING = ("quantizer.", "project_q.", "project_hid.")
POSITIONAL_CONVOLUTION = "encoder.pos_conv_embed.conv"
WEIGHT_NORM_LEAVES = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
"""(norm, direction) as torch.nn.utils.weight_norm spells them, and as parametrizations.weight_norm there does."""


def load_bicodec(checkpoint: BiCodecCheckpoint, device: str) -> tuple[BiCodecEncoder, Any]:
    """The encoders and the mel transform, in float32 on `device`. Raises ModelFilesError on whatever does not fit."""
    path = checkpoint.bicodec_weights
    state = read_tensors(path, unused=UNUSED)
    mel = mel_transform(checkpoint.mel)
    mel_state = {name.removeprefix(MEL): state.pop(name) for name in list(state) if name.startswith(MEL)}
    if mel_state:
        load_strictly(mel, mel_state, path)
    _merge_weight_norm(state, "quantizer.in_project", 0, path)
    with torch.device("meta"):
        model = BiCodecEncoder(checkpoint.encoder, checkpoint.codebook_size, checkpoint.codebook_dim, checkpoint.speaker)
    _fill(model, state, path, device)
    return model, mel.to(device)


def load_wav2vec2(checkpoint: BiCodecCheckpoint, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    """A Wav2Vec2Model of transformers without the layers that are not used, for `mixed_features`, in float32 on `device`.

    Raises ModelFilesError on whatever does not fit.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    path = checkpoint.wav2vec2_weights
    needed = MIXED_LAYERS[-1]
    inner = (
        *("masked_spec_embed", "encoder.layer_norm."),
        *(f"encoder.layers.{layer}." for layer in range(needed, checkpoint.wav2vec2_layers)),
    )
    state = read_tensors(path, unused=(*inner, *(PREFIX + name for name in inner), *PRETRAINING))
    if all(name.startswith(PREFIX) for name in state):
        state = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    _merge_weight_norm(state, POSITIONAL_CONVOLUTION, 2, path)
    try:
        config = Wav2Vec2Config.from_dict({**checkpoint.wav2vec2, "num_hidden_layers": needed})
        config._attn_implementation = ATTENTION  # noqa: SLF001 - there is no public way for a model without files
        with torch.device("meta"):
            model: Any = Wav2Vec2Model(config)
    # Newer versions check the types of a config, older ones stumble over it where it is used.
    except (StrictDataclassError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFilesError(f"{checkpoint.configs[2]}: transformers refuses this config ({reason})") from None
    model.encoder.layer_norm = torch.nn.Identity()
    model.masked_spec_embed = None
    positional = model.get_submodule(POSITIONAL_CONVOLUTION)
    if parametrize.is_parametrized(positional, "weight"):
        parametrize.remove_parametrizations(positional, "weight")
    _fill(model, state, path, device)
    return model


def _fill(model: torch.nn.Module, state: Mapping[str, Tensor], path: Path, device: str) -> None:
    """Give a model without storage its place on `device` and its weights; all its tensors must be in `state`."""
    model.to_empty(device=device)
    load_strictly(model, state, path)
    model.eval().requires_grad_(requires_grad=False)


def _merge_weight_norm(state: dict[str, Tensor], module: str, axis: int, path: Path) -> None:
    """Replace the norm and direction of `module` by its weight. What is no pair stays, and does not fit the model."""
    for norm_leaf, direction_leaf in WEIGHT_NORM_LEAVES:
        norm, direction = state.get(f"{module}.{norm_leaf}"), state.get(f"{module}.{direction_leaf}")
        if norm is None or direction is None:
            continue
        shape = [size if i == axis else 1 for i, size in enumerate(direction.shape)]
        if list(norm.shape) != shape:
            raise ModelFilesError(f"{path}: expected {module}.{norm_leaf} of shape {shape}, found {list(norm.shape)}")
        del state[f"{module}.{norm_leaf}"], state[f"{module}.{direction_leaf}"]
        # The function behind both spellings of torch's weight norm: merging once must not round otherwise than
        # upstream's removal of it. There is no public name for it.
        state[f"{module}.weight"] = torch._weight_norm(direction.float(), norm.float(), axis)  # noqa: SLF001
