"""Whisper's encoder from a checkpoint, without its decoder, and the states of one window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Audio
from audio_tokenizers.shared.transformers_models import without_storage
from audio_tokenizers.shared.weights import Naming, Weights
from audio_tokenizers.whisper_features.files import SAMPLE_RATE, Checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION", "WhisperEncoder"]

ATTENTION = "sdpa"
ENCODER = Naming(
    parts=("conv1", "conv2", "embed_positions", "layers", "layer_norm"),
    prefixes=("encoder.",),
    unneeded=r"(decoder|proj_out)\.",  # the head, which shares the decoder's embedding
)


class WhisperEncoder:
    """Mel and encoder of transformers in float32: the encoder on `device`, the mel always on the CPU."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        import transformers

        self._window = checkpoint.window
        extractor: Any = transformers.WhisperFeatureExtractor
        self._extractor = extractor(feature_size=checkpoint.mel_bins)
        self._encoder = _load_encoder(checkpoint, device)

    def compute_in_bfloat16(self) -> None:
        """All but the first layer, which reads the mel, and the last norm, whose output is `final`. States are bfloat16 or
        float32.
        """
        from audio_tokenizers.shared.bfloat16 import use_bfloat16

        use_bfloat16([self._encoder], last=[self._encoder.layer_norm], first=[self._encoder.conv1])

    def states(self, mel: torch.Tensor, layer: int | None) -> list[torch.Tensor]:
        """float32 [batch, mel_bins, 2 * positions] on the device, from `mel` -> floats [batch, positions, width] each.

        The input of `layer` (hidden_states[layer] of transformers; 0 is the embedding), unless that is None, and the final
        states, after the last layer norm.
        """
        seen: list[torch.Tensor] = []
        hook = layer is not None and self._encoder.layers[layer].register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
        try:
            seen.append(self._encoder(mel).last_hidden_state)
        finally:
            if hook:
                hook.remove()
        return seen

    def mel(self, wave: Audio) -> npt.NDArray[np.float32]:
        """float32 [mel_bins, 2 * positions]: log mel of at most one window, zero-padded at its end."""
        mel: npt.NDArray[np.float32] = self._extractor(
            wave, sampling_rate=SAMPLE_RATE, max_length=self._window, return_tensors="np"
        ).input_features[0]
        return mel


def _load_encoder(checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401 - its modules have no types
    """Load transformers' WhisperEncoder in float32 on `device`. Raises ModelFilesError for weights that do not fit."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

    def make() -> Any:  # noqa: ANN401 - its modules have no types
        config: Any = WhisperConfig.from_dict(dict(checkpoint.config))
        config._attn_implementation = ATTENTION  # noqa: SLF001 - the constructor takes it from here
        return Encoder(config)

    encoder = without_storage(checkpoint.config_path, make)
    Weights(checkpoint.weights, ENCODER, str(checkpoint.config_path)).read(device).fill(encoder)
    return encoder
