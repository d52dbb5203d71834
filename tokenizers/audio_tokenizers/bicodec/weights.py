"""Weights of Spark-TTS into the encoders of BiCodec and wav2vec2.

Upstream prints the names of missing and surplus tensors and continues with random ones. Here shared/weights.py decides
what fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from audio_tokenizers.bicodec.files import ATTENTION, MIXED_LAYERS, BiCodecCheckpoint
from audio_tokenizers.bicodec.model import BiCodecEncoder, mel_transform
from audio_tokenizers.shared.bfloat16 import use_bfloat16
from audio_tokenizers.shared.transformers_models import merge_parametrizations, without_storage
from audio_tokenizers.shared.weights import Naming, Weights

__all__ = ["Networks", "compute_in_bfloat16", "load_bicodec", "load_networks", "load_wav2vec2"]

MEL = "mel_transformer"
"""The window and the mel filters, which the published file lacks; upstream takes them from a file that has them."""
ENCODERS = Naming(
    parts=("encoder", "quantizer", "speaker_encoder", MEL),
    unneeded="|".join(
        (
            # What follows the quantizers: their output projections and the decoder.
            *(r"decoder\.", r"prenet\.", r"postnet\.", r"quantizer\.out_project\.", r"quantizer\.cluster_size"),
            *(r"speaker_encoder\.project\.", r"speaker_encoder\.quantizer\.project_out\."),
            # The rest of ECAPA, which makes a speaker embedding.
            r"speaker_encoder\.speaker_encoder\.(pool|bn|linear)\.",
        )
    ),
)
WAV2VEC2_PARTS = ("feature_extractor", "feature_projection", "encoder")
WAV2VEC2_PREFIX = "wav2vec2."
"""Of a file that was saved with the head of a task, such as pretraining or CTC."""
PRETRAINING = r"quantizer\.|project_q\.|project_hid\."
"""The head of the published file."""
POSITIONAL_CONVOLUTION = "encoder.pos_conv_embed.conv"


@dataclass(frozen=True, slots=True)
class Networks:
    """All that makes tokens, on one device."""

    bicodec: BiCodecEncoder
    mel: Any
    """What the speaker encoder hears with."""
    wav2vec2: Any


def load_networks(checkpoint: BiCodecCheckpoint, device: str) -> Networks:
    """In float32 on `device`. Raises ModelFilesError on whatever does not fit."""
    return Networks(*load_bicodec(checkpoint, device), load_wav2vec2(checkpoint, device))


def compute_in_bfloat16(networks: Networks) -> None:
    """wav2vec2 and the semantic encoder, but not its last layer. The voice's 32 tokens, of 6 s always, cost little."""
    semantic = networks.bicodec.encoder
    use_bfloat16([networks.wav2vec2, semantic], [semantic.project])


def load_bicodec(checkpoint: BiCodecCheckpoint, device: str) -> tuple[BiCodecEncoder, Any]:
    """The encoders and the mel transform, in float32 on `device`. Raises ModelFilesError on whatever does not fit."""
    weights = Weights([checkpoint.bicodec_weights], ENCODERS, str(checkpoint.configs[1])).read()
    mel = mel_transform(checkpoint.mel)
    with torch.device("meta"):
        model = BiCodecEncoder(checkpoint.encoder, checkpoint.codebook_size, checkpoint.codebook_dim, checkpoint.speaker)
    parts = torch.nn.ModuleDict(dict(model.named_children()))
    if any(name.startswith(f"{MEL}.") for name in weights.tensors):
        parts[MEL] = mel
    weights.fill(parts)
    return model.eval().to(device), mel.to(device)


def load_wav2vec2(checkpoint: BiCodecCheckpoint, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    """A Wav2Vec2Model of transformers without the layers that are not used, for `mixed_features`, in float32 on `device`.

    Raises ModelFilesError on whatever does not fit.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    needed = MIXED_LAYERS[-1]
    upper = "|".join(str(layer) for layer in range(needed, checkpoint.wav2vec2_layers))
    naming = Naming(
        parts=WAV2VEC2_PARTS,
        prefixes=(WAV2VEC2_PREFIX,),
        unneeded=rf"masked_spec_embed$|encoder\.layer_norm\.|encoder\.layers\.({upper})\.|{PRETRAINING}",
        norm_axes={POSITIONAL_CONVOLUTION: 2},
    )
    weights = Weights([checkpoint.wav2vec2_weights], naming, str(checkpoint.configs[2])).read()

    def make() -> Any:  # noqa: ANN401 - its modules have no types
        config = Wav2Vec2Config.from_dict({**checkpoint.wav2vec2, "num_hidden_layers": needed, "add_adapter": False})
        config._attn_implementation = ATTENTION  # noqa: SLF001 - there is no public way for a model without files
        return Wav2Vec2Model(config)

    model = without_storage(checkpoint.configs[2], make)
    model.encoder.layer_norm = torch.nn.Identity()
    model.masked_spec_embed = None
    merge_parametrizations(model)
    weights.fill(model)
    return model.to(device)
