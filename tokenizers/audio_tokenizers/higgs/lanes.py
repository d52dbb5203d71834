"""Lanes of the Higgs audio v2 tokenizer: its two branches, and what each clip's own length decides between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audio_tokenizers.higgs.files import HUBERT_PAD, Checkpoint, acoustic_frames
from audio_tokenizers.higgs.model import hubert_features, quantize
from audio_tokenizers.shared.lanes import Branch

if TYPE_CHECKING:
    import torch

__all__ = ["HiggsLanes"]


class HiggsLanes:
    """A loaded encoder with hooks, and a quantizer of its own."""

    def __init__(self, model: Any, checkpoint: Checkpoint) -> None:  # noqa: ANN401 - its modules have no types
        from audio_tokenizers.shared.lane_quantizers import LaneQuantizer

        self._model = model
        self._checkpoint = checkpoint
        self._hubert, self._semantic = Branch(model.semantic_model), Branch(model.encoder_semantic)
        self._acoustic = Branch(model.acoustic_encoder)
        self._quantizer = LaneQuantizer(model, checkpoint.codebooks)
        self.hear = _resampler(checkpoint).to(model.fc.weight.device)
        """As `model.hear`."""

    def encode(self, batch: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """float32 [lanes, samples], zeros behind `lengths` -> int64 [lanes, codebooks, frames], and each lane's frames."""
        semantic, heard = self._encode_semantic(batch, lengths)
        acoustic, voiced = self._encode_acoustic(batch, lengths, heard)
        with self._quantizer.in_place():
            codes = quantize(self._model, acoustic, semantic)
        return codes, list(map(min, voiced, heard))

    def _encode_semantic(self, batch: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        checkpoint = self._checkpoint
        heard = self.hear(batch)
        ends = [-(-length * checkpoint.semantic_sample_rate // checkpoint.sample_rate) for length in lengths]
        for lane, end in enumerate(ends):
            heard[lane, end:].zero_()  # where the filter rings on, a single clip has ended
        around = 2 * HUBERT_PAD
        with self._hubert.scope({heard.shape[1] + around: [end + around for end in ends]}) as table:
            features = hubert_features(self._model, heard)
        stride = checkpoint.semantic_stride
        kept = [-(-frames // stride) for frames in table.at(features.shape[1])]
        features = features[:, ::stride].transpose(1, 2)
        with self._semantic.scope({features.shape[2]: kept}) as table:
            encoded: torch.Tensor = self._model.encoder_semantic(features)
        return encoded, table.at(encoded.shape[2])

    def _encode_acoustic(
        self, batch: torch.Tensor, lengths: Sequence[int], semantic_frames: Sequence[int]
    ) -> tuple[torch.Tensor, Sequence[int]]:
        checkpoint = self._checkpoint
        shift = checkpoint.shift_padding
        # As wide in every call: who needs the shift must not be seen from another lane.
        shifted = batch.new_zeros((batch.shape[0], 1, batch.shape[1] + 2 * shift))
        ends = []
        for lane, (length, frames) in enumerate(zip(lengths, semantic_frames, strict=True)):
            start = shift if acoustic_frames(length, checkpoint.strides) != frames else 0
            shifted[lane, 0, start : start + length].copy_(batch[lane, :length])
            ends.append(length + 2 * start)
        with self._acoustic.scope({shifted.shape[2]: ends}) as table:
            encoded: torch.Tensor = self._model.acoustic_encoder(shifted)
        return encoded, table.at(encoded.shape[2])


def _resampler(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - torchaudio has no types
    """The filter of `model.hear`, made once: there it is made for each clip, and one of its values on the host."""
    import torch
    import torchaudio

    rates = checkpoint.sample_rate, checkpoint.semantic_sample_rate
    return torchaudio.transforms.Resample(*rates, dtype=torch.float32)
